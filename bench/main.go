// Command bench measures what a call through aivault costs: against no
// intermediary at all, against the bare standard library and, where it is
// installed, against nginx. docs/performance.md says what the table means.
//
// Every part runs in a process of its own (this binary again, with a role):
// the upstream, the load generator, the bare proxy. The fronts are measured
// one after the other and interleaved, round by round, so that a machine that
// changes its speed changes it for all of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// plan is how long and how often to measure.
type plan struct {
	aivault string
	rounds  int           // of throughput, per front
	pairs   int           // of latency, per front
	slice   time.Duration // of one measurement
	events  int           // of one event stream
	runs    int           // of whole processes
	idle    time.Duration // before the idle daemon is looked at
}

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(os.Args[2:]))
		}
	}
	var p plan
	short := flag.Bool("short", false, "measure just enough to see that everything works")
	flag.StringVar(&p.aivault, "aivault", "bin/aivault", "the aivault to measure; aivaultd is beside it")
	flag.Parse()
	p.rounds, p.pairs, p.slice, p.events, p.runs, p.idle = 5, 12, 2*time.Second, 400, 30, time.Minute
	if *short {
		p.rounds, p.pairs, p.slice, p.events, p.runs, p.idle = 1, 2, 300*time.Millisecond, 50, 5, time.Second
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(measure(ctx, p))
}

// roles are what the processes that bench starts do.
var roles = map[string]func(args []string) error{
	"upstream": serveUpstream,
	"floor":    serveFloor,
	"load":     generateLoad,
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
