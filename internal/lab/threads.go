package lab

import (
	"os"
	"strconv"
	"syscall"
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
