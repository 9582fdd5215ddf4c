package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// What may wait to be collected: a part of what is in use, but no less than least. By
// Go's own measure it would be as much again, which for a million sessions is half
// of the memory; and where little is in use, so little that it collects all the time.
const (
	garbage = 0.25
	least   = 32 << 20
)

// tidyUp sets how often garbage is collected, until ctx ends. GOGC and GOMEMLIMIT
// have the last word, and then what the container may have.
func tidyUp(ctx context.Context) {
	memlimit.Set()
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 100
	for {
		metrics.Read(inUse)
		if percent := gcPercent(inUse[0].Value.Uint64()); percent < set*9/10 || percent > set*11/10 {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// memoryLimit is how much the container may have, or the machine has; 0 if nobody knows.
func memoryLimit() uint64 {
	limit, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil {
		return 0
	}
	return limit
}

func gcPercent(inUse uint64) int {
	live := max(float64(inUse), 4<<20) // with less, Go does not begin
	return int(100 * max(garbage*live, least) / live)
}

// leaveNoCore keeps what is in memory, such as credentials, off the disk if the process is
// made to dump it.
func leaveNoCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
