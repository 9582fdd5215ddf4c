package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

// A flood is what was counted while strangers sent bad tokens as fast as they
// could, beside sessions in use.
type flood struct {
	good         result // of the sessions in use
	goodAnswers  int64
	took         time.Duration // all of it
	sent         int64         // bad tokens, each another one
	rate         float64       // so many of them in a second, at the end
	denied, told int64         // those answered 401, and 503
	accepted     int64
	questions    lab.Questions
	keyFetches   int
	memory       [3]int64 // of the service, in bytes: before, in the middle, after
}

// floodClients send one bad token after the other. There are many more than may
// be asked about at once.
const floodClients = 8 * resolver.MaxStrangers

// playFlood sends n bad tokens, and more until so much time has passed.
func playFlood(ctx context.Context, z size, binary string, n int64, atLeast time.Duration) (*flood, error) {
	began := time.Now()
	z.stall = 0
	st, err := newStand(z, binary, &scenario{})
	if err != nil {
		return nil, err
	}
	defer st.close()
	good := st.bystanders(ctx)
	f := &flood{good: result{scenario: &scenario{name: "flood"}, size: z}}
	f.memory[0] = st.services[0].Resident()
	for i := range 2 {
		f.send(ctx, st, n/2, atLeast/2)
		f.memory[i+1] = st.services[0].Resident()
	}
	good.end(&f.good)
	f.goodAnswers = good.answers.Load()
	f.took = time.Since(began)
	f.keyFetches = st.authgear.KeyFetches()
	f.questions = st.authgear.Questions()
	return f, ctx.Err()
}

func (f *flood) send(ctx context.Context, st *stand, n int64, atLeast time.Duration) {
	began := time.Now()
	forge := lab.NewForger(st.authgear)
	var all sync.WaitGroup
	var sent, denied, told, accepted atomic.Int64
	for range floodClients {
		all.Go(func() {
			for ctx.Err() == nil {
				i := sent.Add(1)
				if i > n && time.Since(began) > atLeast {
					sent.Add(-1)
					return
				}
				switch a := st.ask(lab.Bearer(forge.Token(i))); a.Status {
				case http.StatusUnauthorized:
					denied.Add(1)
				case http.StatusServiceUnavailable:
					told.Add(1)
				case http.StatusOK:
					accepted.Add(1)
				}
			}
		})
	}
	all.Wait()
	f.sent += sent.Load()
	f.denied += denied.Load()
	f.told += told.Load()
	f.accepted += accepted.Load()
	f.rate = float64(sent.Load()) / time.Since(began).Seconds()
}

// keysGap is the shortest time between two fetches of the keys, as
// resolver/keys.go has it.
const keysGap = 5 * time.Second

func (f *flood) problems() (list []string) {
	problem := func(format string, args ...any) { list = append(list, "flood: "+fmt.Sprintf(format, args...)) }
	if f.questions.MostStrangers > resolver.MaxStrangers {
		problem("%d questions about strangers at once, more than %d", f.questions.MostStrangers, resolver.MaxStrangers)
	}
	if f.questions.StrangerJWTs > 0 {
		problem("%d questions about JWTs that Authgear did not sign", f.questions.StrangerJWTs)
	}
	if most := 1 + int(f.took/keysGap); f.keyFetches > most {
		problem("%d fetches of the keys in %s, more than %d", f.keyFetches, f.took, most)
	}
	if f.accepted > 0 || f.denied+f.told != f.sent {
		problem("%d of %d bad tokens were accepted, %d denied, %d told to come back", f.accepted, f.sent, f.denied, f.told)
	}
	if f.denied < f.sent/3 || f.questions.MostStrangers == 0 {
		problem("it did not take place: %d of %d were denied, %d asked about", f.denied, f.sent, f.questions.MostStrangers)
	}
	if f.good.wrong+f.good.unavailable+f.good.nothing > 0 {
		problem("of %d requests of sessions in use %d had a wrong answer, %d a 503, %d none", f.goodAnswers, f.good.wrong, f.good.unavailable, f.good.nothing)
	}
	return append(list, f.good.problems()...)
}

func (f *flood) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d distinct bad tokens, %.0f a second, beside %d sessions in use:\n\n", f.sent, f.rate, f.good.bystanders)
	fmt.Fprintf(w, "- of the bad ones %d were denied, %d told to come back (503), %d accepted\n", f.denied, f.told, f.accepted)
	fmt.Fprintf(w, "- at most %d questions about them at once (the cap is %d), %d about forged JWTs\n", f.questions.MostStrangers, resolver.MaxStrangers, f.questions.StrangerJWTs)
	fmt.Fprintf(w, "- %d fetches of the keys in %.0f s\n", f.keyFetches, f.took.Seconds())
	fmt.Fprintf(w, "- of %d requests of the sessions in use %d were denied or wrong, %d answered 503; %.2f resolver calls per session and period\n",
		f.goodAnswers, f.good.wrong, f.good.unavailable+f.good.nothing, f.good.questions)
	fmt.Fprintf(w, "- the service's memory: %d kB before, %d kB in the middle, %d kB after\n", f.memory[0]>>10, f.memory[1]>>10, f.memory[2]>>10)
}
