package main

import "testing"

func TestGarbageIsAPartOfWhatIsInUse(t *testing.T) {
	for _, tt := range []struct {
		inUse uint64
		want  int
	}{
		{0, 800}, {1 << 20, 800}, {32 << 20, 100}, {64 << 20, 50}, {128 << 20, 25}, {1 << 30, 25},
	} {
		if got := gcPercent(tt.inUse); got != tt.want {
			t.Errorf("with %d bytes in use %d %%, want %d %%", tt.inUse, got, tt.want)
		}
	}
}
