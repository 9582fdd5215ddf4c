package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"authgear-forward-auth/internal/proxytest"
)

func TestLinesThatNobodyReadsAreLostAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		log := newPatient(write)
		began := time.Now()
		for i := range 1000 {
			fmt.Fprintf(log, "%d\n", i)
		}
		if took := time.Since(began); took > 2*logPatience {
			t.Errorf("who logs waits for %s", took)
		}
		lines := bufio.NewReader(read)
		for _, want := range []string{"0\n", `"lines":999,`} {
			if got, _ := lines.ReadString('\n'); !strings.Contains(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		go fmt.Fprint(log, "again\n")
		if got, _ := lines.ReadString('\n'); got != "again\n" {
			t.Errorf("%q, want the line that came when somebody read again", got)
		}
	})
}

// The service goes on, and ends when it is told to.
func TestALogThatNobodyReadsStopsNothing(t *testing.T) {
	s := proxytest.NewService(t, "AUTHGEAR_ENDPOINT=http://127.0.0.1:1", "AUTHGEAR_LOG_DECISIONS=all")
	cmd := s.Command()
	cmd.Stderr = full(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	proxytest.Eventually(t, "it listens", func() bool { return proxytest.Accepts(s.Addr) })
	for range 100 {
		if resp := ask(t, s); resp.StatusCode != 401 {
			t.Fatal(resp.Status)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}

// full returns a pipe that takes no more.
func full(t *testing.T) *os.File {
	t.Helper()
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(ends[0]) })
	syscall.SetNonblock(ends[1], true)
	for err := error(nil); err == nil; {
		_, err = syscall.Write(ends[1], make([]byte, 1))
	}
	syscall.SetNonblock(ends[1], false)
	return os.NewFile(uintptr(ends[1]), "full")
}
