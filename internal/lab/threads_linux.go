package lab

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// EachThread calls f with the id of each thread of this process, as Linux tells; those that
// have ended meanwhile do not matter.
func EachThread(f func(id int) error) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := f(id); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return nil
}

// Pin keeps this process, with all of its threads and those that it starts, on these cores.
func Pin(cores ...int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	if err := EachThread(func(id int) error { return unix.SchedSetaffinity(id, &set) }); err != nil {
		return fmt.Errorf("stay on the cores %v: %w", cores, err)
	}
	return nil
}
