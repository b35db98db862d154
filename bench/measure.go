package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// front is one thing in front of the upstream.
type front struct {
	name string
	args []string // of the load generator
	pid  int      // 0 for direct
}

// floorName is the front that the bars are ratios of.
const (
	directName  = "direct"
	floorName   = "bare ReverseProxy"
	nginxName   = "nginx"
	aivaultName = "aivault"
	syncName    = "aivault, audit sync" // without a bar: it waits for the disk
)

func measure(ctx context.Context, p plan) error {
	dir, err := os.MkdirTemp("", "avbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s, %s/%s, %d CPUs, kernel %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel())
	for _, http2 := range []bool{false, true} {
		if err := measureVersion(ctx, p, filepath.Join(dir, fmt.Sprint(http2)), http2); err != nil {
			return err
		}
	}
	return nil
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// measureVersion measures everything with one HTTP version to the upstream.
func measureVersion(ctx context.Context, p plan, dir string, http2 bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	h2 := fmt.Sprintf("-http2=%v", http2)
	ca := filepath.Join(dir, "ca.pem")
	up, err := startRole(ctx, "upstream", 1, h2, "-ca", ca)
	if err != nil {
		return err
	}
	defer up.stop()
	upstream := up.says[0]

	common := []string{"-upstream", upstream, "-ca", ca, h2}
	fronts := []front{{name: directName, args: common}}

	socket := filepath.Join(dir, "floor.sock")
	floor, err := startRole(ctx, "floor", 1, append(slices.Clone(common), "-socket", socket)...)
	if err != nil {
		return err
	}
	defer floor.stop()
	fronts = append(fronts, front{floorName, append(slices.Clone(common), "-socket", socket), floor.pid()})

	if !http2 { // nginx speaks HTTP/1.1 to upstreams
		n, socket, err := startNginx(ctx, dir, upstream, ca)
		if err != nil {
			return err
		}
		if n != nil {
			defer n.stop()
			worker, err := firstChild(n.pid())
			if err != nil {
				return err
			}
			fronts = append(fronts, front{nginxName, append(slices.Clone(common), "-socket", socket), worker})
		}
	}

	av, err := startAivault(ctx, p, dir, upstream, ca)
	if err != nil {
		return err
	}
	defer func() { av.stop() }() // the one that runs then: it is started again on the way
	if !http2 {                  // once is enough: what it costs is the disk's
		synced, err := startAivault(ctx, p, filepath.Join(dir, "sync"), upstream, ca, "--audit-durability", "sync")
		if err != nil {
			return err
		}
		defer synced.stop()
		fronts = append(fronts, front{syncName, append(slices.Clone(common), "-socket", synced.socket, "-envelope"), synced.pid()})
	}
	fronts = append(fronts, front{aivaultName, append(slices.Clone(common), "-socket", av.socket, "-envelope"), av.pid()})

	version := "HTTP/1.1"
	if http2 {
		version = "HTTP/2"
	}
	fmt.Printf("\n%s to the upstream\n", version)
	if http2 {
		if err := wholeProcess(ctx, p, av, upstream, ca); err != nil {
			return err
		}
		fronts[len(fronts)-1].pid = av.pid() // it was started again
	}
	if err := throughput(ctx, p, fronts); err != nil {
		return err
	}
	if err := latency(ctx, p, fronts); err != nil {
		return err
	}
	if err := streams(ctx, p, fronts); err != nil {
		return err
	}
	if http2 {
		return errors.Join(coldStart(ctx, p, av), idle(p, av))
	}
	return nil
}

func table(head string) *tabwriter.Writer {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, head)
	return w
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// throughput measures 32 workers, all fronts in each round.
func throughput(ctx context.Context, p plan, fronts []front) error {
	type row struct{ rps, cpu, p50, p90, p99 []float64 }
	rows := map[string]*row{}
	for range p.rounds {
		for _, f := range fronts {
			r := rows[f.name]
			if r == nil {
				r = &row{}
				rows[f.name] = r
			}
			before, err := cpuOf(f)
			if err != nil {
				return err
			}
			res, err := load(ctx, append(slices.Clone(f.args), "-c", "32", "-for", p.slice.String())...)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			after, err := cpuOf(f)
			if err != nil {
				return err
			}
			r.rps = append(r.rps, res.perSecond())
			r.cpu = append(r.cpu, float64((after-before).Microseconds())/float64(res.Requests))
			r.p50, r.p90, r.p99 = append(r.p50, res.P50), append(r.p90, res.P90), append(r.p99, res.P99)
		}
	}
	w := table("32 workers\treq/s\tp50 µs\tp90 µs\tp99 µs\tCPU µs/req\tpeak RSS MiB\t")
	for _, f := range fronts {
		r := rows[f.name]
		used, rss := "-", "-"
		if f.pid != 0 {
			kib, err := memory(f.pid, "VmHWM")
			if err != nil {
				return err
			}
			used, rss = fmt.Sprintf("%.0f", median(r.cpu)), fmt.Sprintf("%.0f", float64(kib)/1024)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%s\t%s\t\n", f.name, median(r.rps), median(r.p50), median(r.p90), median(r.p99), used, rss)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	ours, bare := rows[aivaultName], rows[floorName]
	fmt.Printf("ratio aivault / %s: throughput %.2f (bar 1.1), CPU %.2f (bar 1.0)\n",
		floorName, ratio(ours.rps, bare.rps), ratio(ours.cpu, bare.cpu))
	return nil
}

// ratio is the median of the ratios of rounds, which ran side by side.
func ratio(a, b []float64) float64 {
	var r []float64
	for i := range a {
		if b[i] > 0 {
			r = append(r, a[i]/b[i])
		}
	}
	if len(r) == 0 {
		return 0
	}
	return median(r)
}

func cpuOf(f front) (time.Duration, error) {
	if f.pid == 0 {
		return 0, nil
	}
	return cpu(f.pid)
}

// latency measures one worker in paired rounds.
func latency(ctx context.Context, p plan, fronts []front) error {
	p50, p99 := map[string][]float64{}, map[string][]float64{}
	for range p.pairs {
		for _, f := range fronts {
			res, err := load(ctx, append(slices.Clone(f.args), "-c", "1", "-for", (p.slice/2).String())...)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			p50[f.name], p99[f.name] = append(p50[f.name], res.P50), append(p99[f.name], res.P99)
		}
	}
	w := table("1 worker\tp50 µs\tp99 µs\t")
	for _, f := range fronts {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t\n", f.name, median(p50[f.name]), median(p99[f.name]))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var added []float64
	for i := range p50[aivaultName] {
		added = append(added, p50[aivaultName][i]-p50[floorName][i])
	}
	fmt.Printf("added by aivault over %s: p50 %+.0f µs (bar +30), p99 %.2f (bar 1.2)\n", floorName, median(added), ratio(p99[aivaultName], p99[floorName]))
	return nil
}

// streams measures how much later than written an event arrives.
func streams(ctx context.Context, p plan, fronts []front) error {
	w := table("event stream\tp50 µs\tp99 µs\t")
	for _, f := range fronts {
		var p50, p99 []float64
		for range max(1, p.rounds/2) {
			res, err := load(ctx, append(slices.Clone(f.args), "-events", fmt.Sprint(p.events))...)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			p50, p99 = append(p50, res.P50), append(p99, res.P99)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t\n", f.name, median(p50), median(p99))
	}
	fmt.Fprintln(w, "(bar: 200 µs and 1000 µs later than direct)\t\t\t")
	return w.Flush()
}

// wholeProcess measures the CLI from fork to exit against curl.
func wholeProcess(ctx context.Context, p plan, av *aivault, upstream, ca string) error {
	warm, err := times(ctx, av.env, p.runs, av.invoke...)
	if err != nil {
		return err
	}
	fmt.Printf("a whole process, daemon warm: aivault invoke %.1f ms", median(warm))
	if curl, err := exec.LookPath("curl"); err == nil {
		theirs, err := times(ctx, os.Environ(), p.runs, curl, "-sS", "--cacert", ca, "-H", "Content-Type: application/json", "-d", prompt, "https://"+upstream+"/v1/item")
		if err != nil {
			return err
		}
		fmt.Printf(", curl %.1f ms: %.2f (bar 1.0)", median(theirs), ratio(warm, theirs))
	}
	fmt.Println()
	return coldStart(ctx, p, av)
}

// coldStart measures an invoke that has to start the daemon, which checks the
// log from the vault's last change on: how long the log is, is said beside.
func coldStart(ctx context.Context, p plan, av *aivault) error {
	lines, err := av.logged(ctx, p)
	if err != nil {
		return err
	}
	var cold []float64
	for range max(3, p.runs/5) {
		if err := av.halt(ctx, p); err != nil {
			return err
		}
		t, err := times(ctx, av.env, 1, av.invoke...)
		if err != nil {
			return err
		}
		cold = append(cold, t...)
	}
	fmt.Printf("a whole process, cold with autostart, %d events in the log: %.1f ms (bar 80)\n", lines, median(cold))
	return av.startByHand(ctx, p)
}

// times runs a command n times, in milliseconds.
func times(ctx context.Context, env []string, n int, argv ...string) ([]float64, error) {
	var all []float64
	for range n {
		start := time.Now()
		if _, err := run(ctx, env, "", argv[0], argv[1:]...); err != nil {
			return nil, err
		}
		all = append(all, float64(time.Since(start).Microseconds())/1000)
	}
	return all, nil
}

// idle looks at the daemon when nobody asks it anything.
func idle(p plan, av *aivault) error {
	time.Sleep(p.idle)
	before, err := switches(av.pid())
	if err != nil {
		return err
	}
	time.Sleep(p.idle)
	after, err := switches(av.pid())
	if err != nil {
		return err
	}
	rss, err := memory(av.pid(), "VmRSS")
	if err != nil {
		return err
	}
	fmt.Printf("idle daemon after %v: %.1f MiB RSS (bar 25), %.1f context switches a minute (bar 6)\n",
		p.idle, float64(rss)/1024, float64(after-before)/p.idle.Minutes())
	return nil
}

func portOf(hostport string) string {
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return ""
	}
	return port
}
