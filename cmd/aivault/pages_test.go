package main_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/registry"
	"moldable.sh/aivault/internal/standin"
)

// A page shows commands in fences of the language sh, and every one of them is
// run: by real programs, in a home of its own, with a stand-in for the APIs.
//
//   - A page is one story: its blocks run in order, in one home. In the
//     reference each command of a section "## aivault …" is an example by
//     itself and begins in a fresh home, with what preparations has for it.
//   - A command succeeds, unless a comment at its end says "exit N".
//   - What a person would type comes from a file on standard input.
//   - A block without a language that follows is what the commands print.
//   - make is asked for a target of the Makefile and not run: CI runs what these run.

// preparations is what the examples of the reference take for granted, by
// section. The reference itself shows what each line here does.
func preparations() map[string]string {
	const accounts = "aivault secrets create --name OPENAI_API_KEY\naivault secrets create --name work-key\n" +
		"aivault credential create openai-work --provider openai --secret secret=work-key"
	return map[string]string{
		"aivault backup":                  "aivault init\necho a-passphrase >~/backup-passphrase",
		"aivault restore":                 "aivault secrets create --name OPENAI_API_KEY\naivault backup ~/aivault.backup",
		"aivault capability bind":         accounts,
		"aivault capability disable":      "aivault init",
		"aivault capability enable":       "aivault init",
		"aivault capability policy clear": "aivault init\naivault capability policy set openai/chat-completions --rate-limit-per-minute 5",
		"aivault capability policy set":   "aivault init\naivault capability policy set openai/chat-completions --rate-limit-per-minute 5",
		"aivault capability policy show":  "aivault init",
		"aivault capability unbind": accounts + "\naivault capability bind 'openai/*' --credential openai-work\n" +
			"aivault capability bind openai/chat-completions --credential openai-work --workspace-id acme --group-name daemon",
		"aivault capability create": "aivault secrets create --name ACME_KEY\n" +
			"aivault credential create acme --auth header --host api.acme.test --secret ACME_KEY",
		"aivault completion": "mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions",
		"aivault credential create": "aivault secrets create --name ACME_KEY\naivault secrets create --name ACME_USER\n" +
			"aivault secrets create --name ACME_CERT --value-file client.crt\naivault secrets create --name ACME_CERT_KEY --value-file client.key\n" +
			"aivault secrets create --name ACME_PASSWORD\naivault secrets create --name LAB_KEY\n" +
			"aivault secrets create --name R2_ID\naivault secrets create --name R2_KEY\n" +
			"aivault secrets create --name AWS_ACCESS_KEY_ID\naivault secrets create --name AWS_SECRET_ACCESS_KEY",
		"aivault oauth logout":  "pass show gitlab-app | aivault oauth login gitlab --client-id my-app --client-secret-stdin",
		"aivault oauth status":  "aivault init",
		"aivault audit verify":  "aivault init\ncp -r ~/.aivault/data/vault/audit audit-copy\ncp audit-copy/key.pub audit-copy/checkpoints .",
		"aivault explain":       "aivault secrets create --name OPENAI_API_KEY\naivault secrets create --name GITHUB_TOKEN",
		"aivault grant add":     "aivault init",
		"aivault grant default": "aivault init",
		"aivault grant reset":   "aivault init\naivault grant add --uid 2001",
		"aivault invoke":        "aivault secrets create --name OPENAI_API_KEY\naivault secrets create --name GITHUB_TOKEN",
		"aivault json":          "aivault secrets create --name GITHUB_TOKEN",
		"aivault markdown":      "aivault secrets create --name GITHUB_TOKEN",
		"aivault registry lint": "aivault registry show linear --json >acme.json",
		"aivault registry test": "aivault registry show linear --json >acme.json\n" +
			"echo 'allow POST api.linear.app /graphql linear/graphql-query body:{\"query\":\"{ a }\"}' >acme.txt",
		"aivault rotate-master":        "aivault init",
		"aivault secrets attach-group": "aivault secrets create --name GITHUB_TOKEN",
		"aivault secrets detach-group": "aivault secrets create --name GITHUB_TOKEN\n" +
			"aivault secrets attach-group GITHUB_TOKEN --workspace-id acme --group-id build",
		"aivault secrets rotate": "aivault secrets create --name OPENAI_API_KEY",
		"aivault secrets update": "aivault secrets create --name OPENAI_API_KEY\naivault secrets create --name old-name",
		"aivault unlock":         "aivault init --provider passphrase\naivault lock",
	}
}

// typed is what a person answers to every question.
const typed = "your-passphrase\n"

func TestPages(t *testing.T) {
	bins := build(t)
	hosts := []string{"api.openai.com", "api.github.com", "api.acme.example", "api.acme.test", "api.teller.io", "api.kraken.com", "my-store.myshopify.com",
		"s3.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", "0123abcd.r2.cloudflarestorage.com"}
	for _, host := range append([]string{pagesIDP}, accountHosts...) {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	upstream := startUpstream(t, hosts)
	prepared := preparations()
	total := 0
	for _, page := range pages(t) {
		blocks := parsePage(t, page)
		var story *reader
		for _, b := range blocks {
			total += len(b.commands)
			if !strings.HasPrefix(b.section, "aivault ") {
				if story == nil {
					story = newReader(t, bins, upstream, hosts)
				}
				story.run(t, b)
				continue
			}
			setup := prepared[b.section]
			delete(prepared, b.section)
			for _, c := range b.commands {
				t.Run(c.text, func(t *testing.T) {
					t.Parallel()
					r := newReader(t, bins, upstream, hosts)
					before := block{page: "preparations"}
					for line := range strings.SplitSeq(setup, "\n") {
						before.add(0, line)
					}
					r.run(t, before)
					r.run(t, block{page: b.page, commands: []command{c}})
				})
			}
		}
	}
	for section := range prepared {
		t.Errorf("preparations has %q, and no page has such a section with commands", section)
	}
	if total < 40 {
		t.Errorf("only %d commands were found", total)
	}
}

func startUpstream(t *testing.T, hosts []string) *standin.API {
	t.Helper()
	login := loginPages()
	upstream, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if login(w, r) {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.Host, "sts.") {
			_, _ = io.WriteString(w, assumedRole("ASIAROLE", "role-secret", "role-session", time.Now().Add(time.Hour)))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if token, ok := tokenFor(r); ok {
			_, _ = io.WriteString(w, token)
			return
		}
		_, _ = fmt.Fprintln(w, `{"login":"octocat"}`)
	}), hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	return upstream
}

// Every capability that is ready can be called by the line that capability
// describe shows for it.
func TestRegistryExamples(t *testing.T) {
	reg, err := registry.Load()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	var env strings.Builder
	var setup block
	setup.add(0, "aivault secrets import --env-file all.env")
	for _, id := range reg.Providers() {
		p := reg.Provider(id)
		params, own := accountOf(p), ""
		for i := range p.Capabilities {
			for _, template := range p.HostsOf(&p.Capabilities[i]) {
				host, ok := p.FillHost(template, params)
				if !ok {
					t.Fatalf("%s: %v fills no host", id, params)
				}
				if strings.Contains(template, "{") {
					own = host
				}
				if !slices.Contains(hosts, host) {
					hosts = append(hosts, host)
				}
			}
		}
		for i := range p.Logins {
			host, _, _ := strings.Cut(strings.TrimPrefix(tokenEndpoint(p, &p.Logins[i], params), "https://"), "/")
			if host != "" && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
		account := "aivault credential create " + id + " --host " + own
		for _, s := range p.Secrets {
			env.WriteString(s.Name + "=" + exampleValue(t, p, s.Field) + "\n")
			account += " --secret " + s.Name
		}
		if p.Defaults() == nil {
			setup.add(0, account)
		}
	}
	r := newReader(t, build(t), startUpstream(t, hosts), hosts)
	if err := os.WriteFile(filepath.Join(r.dir, "all.env"), []byte(env.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run(t, setup)
	list := exec.CommandContext(t.Context(), filepath.Join(r.dev, "aivault"), "capability", "list", "--json")
	list.Dir, list.Env = r.dir, r.env
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all api.CapabilityList
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`(?:--body-file |--multipart-file '?[^ =]+=)([A-Za-z0-9._-]+)`)
	var calls block
	ready := 0
	called := map[string]int{}
	for _, c := range all.Capabilities {
		// A process for each would take minutes: internal/lint judges the rest.
		if called[c.Provider]++; !c.Ready || called[c.Provider] > 2 {
			continue
		}
		ready++
		_, entry := reg.Capability(c.ID)
		for _, m := range file.FindAllStringSubmatch(entry.Example, -1) {
			if err := os.WriteFile(filepath.Join(r.dir, m[1]), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		calls.add(ready, "aivault invoke "+c.ID+" "+entry.Example)
	}
	if r.run(t, calls); ready < 150 {
		t.Errorf("only %d capabilities are ready", ready)
	}
}

// accountOf are host parameters that an account at the provider might have.
func accountOf(p *registry.Provider) map[string]string {
	params := map[string]string{}
	for _, h := range p.HostParams {
		shape := regexp.MustCompile(cmp.Or(h.Pattern, "^acme.test$"))
		for _, value := range append(append([]string{h.Default}, h.Values...), "acme", "acme.test", "us1", "acme-1", "us-east-1", "acme-us-east-1",
			"acme-0123abc", strings.Repeat("a", 7), strings.Repeat("a", 8), strings.Repeat("a", 20), strings.Repeat("a", 32)) {
			if value != "" && (h.Pattern == "" || shape.MatchString(value)) && (!p.SelfHosted || value == "acme.test") {
				params[h.Name] = value
				break
			}
		}
	}
	return params
}

func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "changelog/*.md"} {
		found, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	for _, must := range []string{"README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/registry/format.md", "docs/registry/contributing.md",
		"docs/custom-providers.md", "docs/limits.md", "docs/tenants-and-grants.md"} {
		if !slices.Contains(all, filepath.Join("../..", must)) {
			t.Fatalf("%s is not among the pages", must)
		}
	}
	return all
}

// block is the commands of one fence, and what the page says that they print.
type block struct {
	page, section string
	commands      []command
	output        []string
}

type command struct {
	line int
	text string
	exit int
}

var (
	saysExit = regexp.MustCompile(`#.*\bexit ([0-9]+)`)
	program  = regexp.MustCompile(`^(?:\$ )?(?:aivaultd?|make|go) `)
)

// parsePage finds the blocks of a page. A fence in a language that nothing
// here knows is an error, as is a command in a fence that is not run.
func parsePage(t *testing.T, path string) []block {
	t.Helper()
	page := strings.TrimPrefix(path, "../../")
	var blocks []block
	var section, language string
	var fresh bool // the fence that ended last was sh
	inside := false
	for i, line := range strings.Split(readDoc(t, page), "\n") {
		where := fmt.Sprintf("%s:%d", page, i+1)
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !inside:
			inside, language = true, fence
			switch language {
			case "sh":
				blocks = append(blocks, block{page: page, section: section})
			case "", "json":
			case "text": // what stands in a file, whatever it looks like
			default:
				t.Errorf("%s: a fence of language %q: commands are sh, and run; output and figures have none, and a file's content is text", where, language)
			}
		case isFence:
			inside, fresh = false, language == "sh"
		case inside && language == "sh":
			last := &blocks[len(blocks)-1]
			last.add(i+1, line)
		case inside && language == "" && fresh:
			last := &blocks[len(blocks)-1]
			last.output = append(last.output, line)
		case inside && language == "" && page != "docs/cli.md" && program.MatchString(line):
			// The reference has the synopsis of each command in such a fence.
			t.Errorf("%s: a command in a fence that is not run: make it sh", where)
		case !inside && strings.TrimSpace(line) != "":
			fresh = false
			if head, ok := strings.CutPrefix(line, "## "); ok {
				section = head
			}
		}
	}
	if inside {
		t.Errorf("%s: a fence that does not end", page)
	}
	return blocks
}

// add appends a line; one that ends with a backslash goes on in the next.
func (b *block) add(number int, line string) {
	if n := len(b.commands); n > 0 && strings.HasSuffix(b.commands[n-1].text, "\\") {
		b.commands[n-1].text += "\n" + line
	} else if strings.TrimSpace(line) != "" {
		b.commands = append(b.commands, command{line: number, text: line})
	}
	if m := saysExit.FindStringSubmatch(line); m != nil {
		b.commands[len(b.commands)-1].exit, _ = strconv.Atoi(m[1])
	}
}

// reader is someone who types what a page shows.
type reader struct {
	dir string // where the files are that the pages name
	dev string // where the programs are
	env []string
}

// contribution is the provider file and the requests that the page for
// contributors shows: its first two fences.
func contribution(t *testing.T) (provider, requests string) {
	t.Helper()
	const page = "docs/registry/contributing.md"
	fences := strings.Split(readDoc(t, page), "\n```")
	if len(fences) < 5 || !strings.HasPrefix(fences[1], "json\n") || !strings.HasPrefix(fences[3], "\n") {
		t.Fatalf("%s does not begin with a file and its requests", page)
	}
	return strings.TrimPrefix(fences[1], "json\n") + "\n", fences[3][1:] + "\n"
}

// newReader has a home, the files that the pages name, and in place of other
// people's programs scripts that do as much of them as the pages need.
func newReader(t *testing.T, bins string, upstream *standin.API, hosts []string) *reader {
	t.Helper()
	home, err := os.MkdirTemp("/tmp", "av")
	if err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(bins, "dev")
	t.Cleanup(func() {
		stopDaemon(home, dev)
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	makefile, err := filepath.Abs("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{dir: filepath.Join(home, "work"), dev: dev}
	provider, requests := contribution(t)
	tools := filepath.Join(home, "tools")
	clients, err := clientFiles("client", "new")
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := accountFiles()
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"work/robot.json":           accounts["robot.json"],
		"work/client.json":          accounts["client.json"],
		"work/acme-client.json":     `{"client_id":"a-client","client_secret":"a-value","refresh_token":"a-token"}`,
		"work/acme-robot.json":      accounts["acme-robot.json"],
		"work/acme.private-key.pem": accounts["acme.private-key.pem"],
		"work/client.crt":           clients["client.crt"],
		"work/client.key":           clients["client.key"],
		"work/client.pem":           clients["client.crt"] + clients["client.key"],
		"work/new.crt":              clients["new.crt"],
		"work/new.key":              clients["new.key"],
		"work/event.json":           "{\"action\":\"opened\"}\n",
		"work/typed":                typed,
		".aws/credentials":          "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = a-value\n",
		"work/token.txt":            "a-token\n",
		"work/.env":                 "OPENAI_API_KEY=a-value # of the team\nexport ACME_KEY='another'\n",
		"work/acme-key.txt":         "acme-key\n",
		"work/kraken-key.txt":       "YS1rZXkgdGhhdCBzaWducw==\n",
		"work/new-key.txt":          "new-key\n",
		"work/talk.mp3":             "sound\n",
		"work/lab-ca.pem":           string(upstream.CAPEM()),
		"work/weather.json":         provider,
		"work/weather.txt":          requests,
		"tools/make": "#!/bin/sh\nfor a; do\n  case $a in *=*) continue ;; esac\n" +
			"  grep -q \"^$a:\" '" + makefile + "' || { echo \"no target $a\" >&2; exit 2; }\ndone\n",
		"tools/pass":     "#!/bin/sh\necho a-value\n",
		"tools/xdg-open": browserScript(upstream.Addr().String()),
		"tools/jq":       "#!/bin/sh\ngrep '\"login\"'\n",
	} {
		file := filepath.Join(home, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), fs.FileMode(0o700))); err != nil {
			t.Fatal(err)
		}
	}
	var resolve []string
	for _, host := range hosts {
		resolve = append(resolve, host+"="+upstream.Addr().String())
	}
	r.env = []string{
		"HOME=" + home, "PATH=" + tools + ":" + dev + ":" + os.Getenv("PATH"),
		"AIVAULT_DEV_RESOLVE=" + strings.Join(resolve, ","), "AIVAULT_DEV_CA_CERT_PATH=" + filepath.Join(r.dir, "lab-ca.pem"),
		"MY_VAULT_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
		"DISPLAY=:0", // xdg-open is what a reader has for a browser
	}
	return r
}

// run types a block's commands into one shell, which stops at the first that
// does not end as the page says.
func (r *reader) run(t *testing.T, b block) {
	t.Helper()
	var script strings.Builder
	for _, c := range b.commands {
		fmt.Fprintf(&script, "{ %s\n} <typed\ns=$?; [ $s -eq %d ] || { echo \"exit $s, want %d: line %d\" >&2; exit 1; }\n", c.text, c.exit, c.exit, c.line)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script.String())
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.dir, r.env, 10*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", b.page, err, script.String(), out)
	}
	for _, line := range b.output {
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("%s shows the output %q; it is:\n%s", b.page, line, out)
		}
	}
}
