package main

import (
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
	idle  chan []byte // has a buffer while no line is on its way
	lines chan line
	stuck atomic.Bool
	lost  atomic.Int64
}

// A line is on its way until written is closed.
type line struct {
	text    []byte
	written chan struct{}
}

// logPatience is how long a line waits.
const logPatience = 100 * time.Millisecond

func newPatient(to io.Writer) *patient {
	p := &patient{to: to, idle: make(chan []byte, 1), lines: make(chan line)}
	p.idle <- nil
	go p.run()
	return p
}

// Write returns when the text is written, or lost.
func (p *patient) Write(text []byte) (int, error) {
	var buffer []byte
	select {
	case buffer = <-p.idle:
	default:
		if p.stuck.Load() {
			p.lost.Add(1)
			return len(text), nil
		}
		select {
		case buffer = <-p.idle:
		case <-time.After(logPatience):
			p.stuck.Store(true)
			p.lost.Add(1)
			return len(text), nil
		}
	}
	l := line{append(buffer[:0], text...), make(chan struct{})}
	p.lines <- l
	select {
	case <-l.written:
	case <-time.After(logPatience):
		p.stuck.Store(true)
	}
	return len(text), nil
}

func (p *patient) run() {
	for l := range p.lines {
		p.to.Write(l.text)
		p.stuck.Store(false)
		if n := p.lost.Swap(0); n > 0 {
			log := zerolog.New(p.to).With().Timestamp().Logger()
			log.Warn().Int64("lines", n).Msg("lines of log were lost: nobody read them")
		}
		close(l.written)
		p.idle <- l.text
	}
}
