package audit

import (
	"bufio"
	"context"
	"os"
	"testing"
)

func BenchmarkAppend(b *testing.B) {
	l := create(b, config(b))
	r := sample(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// The floor of BenchmarkAppend: the same bytes, and nothing but the write.
func BenchmarkBareWrite(b *testing.B) {
	cfg := config(b)
	l := create(b, cfg)
	add(b, l, 1, 1)
	line := read(b, current(cfg))
	f, err := os.OpenFile(current(cfg), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	l := create(b, config(b))
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		r := sample(1)
		for pb.Next() {
			if _, err := l.Append(context.Background(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkAppendTwoLogs(b *testing.B) {
	cfg := config(b)
	logs := [2]*Log{create(b, cfg), open(b, cfg)}
	b.SetParallelism(4)
	turn := make(chan int, 100)
	for i := range cap(turn) {
		turn <- i
	}
	b.RunParallel(func(pb *testing.PB) {
		l, r := logs[<-turn%2], sample(1)
		for pb.Next() {
			if _, err := l.Append(context.Background(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkAppendSyncParallel(b *testing.B) {
	l := create(b, config(b))
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		r := sample(1)
		for pb.Next() {
			if _, err := l.AppendSync(context.Background(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// long makes a log of n lines without a system call for each.
func long(b *testing.B, n int) *Log {
	cfg := config(b)
	create(b, cfg).Close()
	f, err := os.OpenFile(current(cfg), os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	c := genesis(cfg.VaultID)
	r := sample(1)
	var line []byte
	for range n {
		line = append(c.appendPrefix(line[:0]), "1700000000000,"...)
		if line, err = appendBody(line, &r); err != nil {
			b.Fatal(err)
		}
		c.advance(line)
		if _, err := w.Write(append(line, '\n')); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	f.Close()
	return open(b, cfg)
}

func BenchmarkWalk(b *testing.B) {
	const lines = 100_000
	l := long(b, lines)
	for b.Loop() {
		if h, err := l.Walk(Head{}, nil); err != nil || h.Seq != lines {
			b.Fatal(h, err)
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkWalkWithFunc(b *testing.B) {
	const lines = 100_000
	l := long(b, lines)
	for b.Loop() {
		if _, err := l.Walk(Head{}, func([]byte, Head) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkFind200OfAMillion(b *testing.B) {
	l := long(b, 1_000_000)
	for b.Loop() {
		if got, err := l.Find(Query{Limit: 200}); err != nil || len(got) != 200 {
			b.Fatal(len(got), err)
		}
	}
}

func BenchmarkOpenAndAppendToAMillion(b *testing.B) {
	cfg := long(b, 1_000_000).cfg
	for b.Loop() {
		l, err := Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Append(context.Background(), sample(1)); err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Appending while segments are closed and compressed: by the default size, and
// one so small that a close falls on every fiftieth record.
func BenchmarkAppendRotating(b *testing.B) {
	for name, size := range map[string]int64{"16MiB": 0, "20KB": 20_000} {
		b.Run(name, func(b *testing.B) {
			cfg := config(b)
			cfg.SegmentSize, cfg.Tend = size, true
			l := create(b, cfg)
			l.SetSigner(testKey(1))
			r := sample(1)
			for b.Loop() {
				if _, err := l.Append(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
