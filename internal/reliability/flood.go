package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"authgear-forward-auth/internal/lab"
	"authgear-forward-auth/resolver"
)

// A flood is what strangers do, as fast as they can, until ctx ends.
type flood struct {
	name  string
	least time.Duration // it takes so long to see
	play  func(ctx context.Context, st *stand, s *strangers) error

	wants  []int // what they are answered, the first of which some are; 0: their connection ends
	asks   bool  // some are asked about
	unfair bool  // they have sessions that are asked about all the time, so it is not known whose hits are whose
}

// strangers count what they did and what they were answered.
type strangers struct {
	size
	mu       sync.Mutex
	sent     int
	answered map[int]int // :: status → how many; 0: the service ended the connection
	known    int         // of the answers, those to credentials that are remembered
	wrong    []string    // the first of them
}

// got notes an answer.
func (s *strangers) got(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	s.answered[status]++
}

// gotKnown notes an answer to a credential that is remembered.
func (s *strangers) gotKnown(status int) {
	s.got(status)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known++
}

func (s *strangers) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// size says how much is done.
type size struct {
	users   int           // whose traffic is good
	quiet   time.Duration // without a flood, before and after
	flood   time.Duration // at least
	clients int           // of a flood, at a time
	idle    int           // connections
	hits    float64       // so much of the users' hit ratio must be left
	aside   bool          // the flood takes of the machine what everybody else leaves
}

// A drowning is what was counted in a flood.
type drowning struct {
	*flood
	*strangers
	took                  time.Duration
	before, during, after sample
	dry, wet              level // before, and when it was over
	mostMemory            int64
	questions             lab.Questions
	keyFetches            int
	left                  error // goroutines or files
}

func (f *flood) run(ctx context.Context, binary string, z size) (*drowning, error) {
	start := newStand
	if z.aside {
		start = newStandApart
	}
	st, err := start(binary)
	if err != nil {
		return nil, err
	}
	defer st.close()
	g, err := st.newGood(ctx, z.users, z.aside)
	if err != nil {
		return nil, err
	}
	defer g.end()
	d := &drowning{flood: f, strangers: &strangers{size: z, answered: map[int]int{}}}
	d.before, err = g.during(func() { sleep(ctx, z.quiet) })
	if err == nil {
		d.dry, err = st.level()
	}
	if err != nil {
		return nil, err
	}
	watched, stopWatching := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { d.watch(watched, st) })
	fetches, began := st.authgear.KeyFetches(), time.Now()
	var played error
	d.during, err = g.during(func() {
		ctx, cancel := context.WithTimeout(ctx, max(z.flood, f.least))
		defer cancel()
		played = d.take(ctx, st)
	})
	stopWatching()
	watching.Wait()
	if err == nil {
		err = played
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, st.service.Output())
	}
	d.during.hits -= d.known
	d.took = time.Since(began)
	d.keyFetches = st.authgear.KeyFetches() - fetches
	d.questions = st.authgear.Questions()
	if d.after, err = g.during(func() { sleep(ctx, z.quiet) }); err != nil {
		return nil, err
	}
	d.wet, d.left = st.asBefore(d.dry)
	return d, ctx.Err()
}

// take lets the strangers do what they do.
func (d *drowning) take(ctx context.Context, st *stand) error {
	if !d.aside {
		return d.play(ctx, st, d.strangers)
	}
	back, err := stepBack()
	if err != nil {
		return err
	}
	return errors.Join(d.play(ctx, st, d.strangers), back())
}

func (d *drowning) watch(ctx context.Context, st *stand) {
	for ; ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
		d.mostMemory = max(d.mostMemory, st.service.Resident())
	}
}

// What must hold in each flood.
const (
	keysGap  = 5 * time.Second // between two fetches of the keys, as resolver/keys.go has it
	mostMore = 384 << 20       // memory in a flood beyond that before
)

func (d *drowning) problems() (list []string) {
	problem := func(format string, args ...any) { list = append(list, d.name+": "+fmt.Sprintf(format, args...)) }
	for name, s := range map[string]sample{"before": d.before, "meanwhile": d.during, "afterwards": d.after} {
		if s.Answers == 0 || s.Wrong+s.Unavailable+s.Nothing > 0 {
			problem("%s, of %d requests of users %d had a wrong answer, %d a 503, %d none", name, s.Answers, s.Wrong, s.Unavailable, s.Nothing)
		}
	}
	if r := d.during.hitRatio(); !d.unfair && r < d.size.hits*d.before.hitRatio() {
		problem("the hit ratio of users falls from %.4f to %.4f", d.before.hitRatio(), r)
	}
	if d.questions.MostStrangers > resolver.MaxStrangers || d.questions.MostKnown > resolver.MaxQuestions {
		problem("%d questions at once about strangers, %d about others", d.questions.MostStrangers, d.questions.MostKnown)
	}
	if d.asks != (d.questions.MostStrangers > 0) {
		problem("%d questions at once about strangers: not what this flood is", d.questions.MostStrangers)
	}
	if d.questions.StrangerJWTs > 0 {
		problem("%d questions about JWTs that Authgear did not sign", d.questions.StrangerJWTs)
	}
	if most := 1 + int(d.took/keysGap); d.keyFetches > most {
		problem("%d fetches of the keys in %s, more than %d", d.keyFetches, d.took, most)
	}
	if more := d.mostMemory - d.dry.memory; more > mostMore {
		problem("%s of memory, and %s before", mib(d.mostMemory), mib(d.dry.memory))
	}
	for status, n := range d.answered {
		if !slices.Contains(d.wants, status) {
			problem("%d times the answer was %d", n, status)
		}
	}
	if d.answered[d.wants[0]] == 0 {
		problem("it did not take place: %v of %d", d.answered, d.sent)
	}
	for _, what := range d.wrong {
		problem("%s", what)
	}
	if d.left != nil {
		problem("%v", d.left)
	}
	return list
}

func printFloods(w io.Writer, all []*drowning) {
	fmt.Fprintln(w, "| Flood | Requests (a second) | Their answers | Users' answers, other than 200 | Hit ratio of users, before → meanwhile | p99 of users (median of those of 0.1 s), before → meanwhile → afterwards; the slowest answer "+
		"| Questions at once, about strangers; users | Key fetches | Memory, before → most → afterwards | Goroutines and files, before → afterwards |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	for _, d := range all {
		s, ratio := d.during, "not counted"
		if !d.unfair {
			ratio = fmt.Sprintf("%.4f → %.4f", d.before.hitRatio(), d.during.hitRatio())
		}
		fmt.Fprintf(w, "| %s | %d (%.0f) | %s | %d, %d | %s | %s → %s → %s; %s → %s → %s | %d; %d | %d in %.0f s | %s → %s → %s | %d, %d → %d, %d |\n",
			d.name, d.sent, float64(d.sent)/d.took.Seconds(), answers(d.answered),
			s.Answers, s.Wrong+s.Unavailable+s.Nothing, ratio,
			ms(d.before.P99), ms(s.P99), ms(d.after.P99), ms(d.before.Slowest), ms(s.Slowest), ms(d.after.Slowest),
			d.questions.MostStrangers, d.questions.MostKnown, d.keyFetches, d.took.Seconds(), mib(d.dry.memory), mib(d.mostMemory), mib(d.wet.memory),
			d.dry.goroutines, d.dry.files, d.wet.goroutines, d.wet.files)
	}
}

// answers tells the part of each status.
func answers(of map[int]int) string {
	total := 0
	for _, n := range of {
		total += n
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(of)) {
		name := "connection ended"
		if status != 0 {
			name = strconv.Itoa(status)
		}
		parts = append(parts, fmt.Sprintf("%s: %.1f %%", name, 100*float64(of[status])/float64(total)))
	}
	return strings.Join(parts, ", ")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
