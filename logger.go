package main

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

func newLogger(set settings, stderr io.Writer) zerolog.Logger {
	zerolog.DurationFieldUnit = time.Microsecond
	if set.LogFormat == "console" {
		stderr = zerolog.ConsoleWriter{Out: stderr, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != ""}
	}
	return zerolog.New(newPatient(stderr)).Level(zerolog.Level(set.LogLevel)).With().Timestamp().Logger()
}

// A patient writer waits for whoever reads the log, but not for long: then lines are lost, and
// counted, until somebody reads again. Else a reader that has stopped would stop those who log.
type patient struct {
	to    io.Writer
	turn  chan struct{} // of one line at a time
	stuck atomic.Bool
	lost  atomic.Int64
}

// logPatience is how long a line waits.
const logPatience = time.Second

func newPatient(to io.Writer) *patient { return &patient{to: to, turn: make(chan struct{}, 1)} }

// Write returns when the line is written, or lost.
func (p *patient) Write(line []byte) (int, error) {
	select {
	case p.turn <- struct{}{}:
	default:
		if p.stuck.Load() || !p.waitForTurn() {
			p.lost.Add(1)
			return len(line), nil
		}
	}
	written := make(chan struct{}, 1)
	go p.write(bytes.Clone(line), written)
	select {
	case <-written:
	case <-time.After(logPatience):
		p.stuck.Store(len(written) == 0)
	}
	return len(line), nil
}

func (p *patient) waitForTurn() bool {
	select {
	case p.turn <- struct{}{}:
		return true
	case <-time.After(logPatience):
		return false
	}
}

func (p *patient) write(line []byte, written chan<- struct{}) {
	p.to.Write(line)
	p.stuck.Store(false)
	if n := p.lost.Swap(0); n > 0 {
		log := zerolog.New(p.to).With().Timestamp().Logger()
		log.Warn().Int64("lines", n).Msg("lines of log were lost: they could not be written in time")
	}
	written <- struct{}{}
	<-p.turn
}
