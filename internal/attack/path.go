package attack

import (
	"fmt"
	"strings"

	"moldable.sh/aivault/internal/api"
)

// spell returns every way of writing text in which each character takes one
// of its spellings.
func spell(text string, spellings map[rune][]string) []string {
	all := []string{""}
	for _, c := range text {
		ways := spellings[c]
		if ways == nil {
			ways = []string{string(c)}
		}
		var longer []string
		for _, s := range all {
			for _, w := range ways {
				longer = append(longer, s+w)
			}
		}
		all = longer
	}
	return all
}

// escapes are the usual spellings of an ASCII character in a URL: escaped,
// escaped twice in two ways, as an overlong form of two and three bytes, and
// as some servers of Microsoft's have it.
func escapes(c byte) []string {
	return []string{
		fmt.Sprintf("%%%02x", c), fmt.Sprintf("%%%02X", c), fmt.Sprintf("%%25%02x", c), fmt.Sprintf("%%%%%02x%%%02x", "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15]),
		fmt.Sprintf("%%%02x%%%02x", 0xc0|c>>6, 0x80|c&0x3f), fmt.Sprintf("%%e0%%%02x%%%02x", 0x80|c>>6, 0x80|c&0x3f), fmt.Sprintf("%%u%04x", c),
	}
}

// Twins of '.', '/' and '\' that compatibility forms, or eyes, take for them.
func dots() []string {
	return append(escapes('.'), ".", "\uff0e", "\u2024", "%ef%bc%8e", "%e2%80%a4")
}

func slashes() []string {
	return append(escapes('/'), "/", "\\", "%5c", "%5C", "%255c", "\uff0f", "\uff3c", "\u2215", "\u2044", "%ef%bc%8f", "%e2%88%95", "%c0%9v", "%c1%9c")
}

func pathAttacks() []Attack {
	bad := []api.Code{api.InvalidRequest, api.PolicyViolation}
	each := func(t *T, paths []string, codes ...api.Code) {
		for _, p := range paths {
			t.refused(fmt.Sprintf("path %+q", p), t.honest().to(p), codes...)
		}
	}
	exactly := func(paths ...string) func(*T) {
		return func(t *T) {
			for _, p := range paths {
				t.passes(fmt.Sprintf("path %+q", p), t.honest().to(p))
			}
		}
	}
	return []Attack{
		{
			ID: "dot-segments", Class: "path", Title: "`..` between slashes, each character in every spelling: escaped once and twice, overlong, full-width, look-alike",
			Harm: "A call that was judged as one path would reach another at the upstream.",
			Run: func(t *T) {
				for _, dot := range dots() {
					for _, other := range []string{dot, "."} {
						for _, slash := range slashes() {
							if dot == "." && slash == "/" {
								continue
							}
							each(t, []string{"/v1/below" + slash + dot + other + slash + "admin", "/v1/below/x" + slash + dot + other + "/" + other + dot + slash + "admin"}, bad...)
						}
					}
				}
				each(t, []string{"/v1/below/../admin", "/v1/below/./x", "/v1/below/..", "/v1/below/.", "/../v1/exact", "/./v1/exact", "/v1/exact/..", "/..", "/.", "/v1/below/x/..%2f..%2fadmin"}, bad...)
			},
			Twin: exactly("/v1/below/a.b", "/v1/below/..a", "/v1/below/a..", "/v1/below/.well-known/x"),
		},
		{
			ID: "long-dots", Class: "path", Title: "segments of dots and blanks that some servers strip (`...`, `.. `, `..%20`, `. .`)",
			Harm: "A server that strips blanks and dots would navigate where policy saw a name.",
			Run: func(t *T) {
				var all []string
				for _, seg := range spell("abc", map[rune][]string{'a': {".", "%2e"}, 'b': {".", "%20", "%2e"}, 'c': {".", "%20", ""}}) {
					all = append(all, "/v1/below/"+seg+"/x", "/v1/below/"+seg)
				}
				each(t, all, bad...)
			},
			Twin: exactly("/v1/below/.a", "/v1/below/a%20b"),
		},
		{
			ID: "escaped-slash", Class: "path", Title: "`%2f` and `%5c`, escaped again and in both cases, where no rule declares them",
			Harm: "Servers disagree about an escaped slash: one segment for policy would be two for the upstream.",
			Run: func(t *T) {
				var all []string
				for _, slash := range slashes() {
					if slash != "/" {
						all = append(all, "/v1/below/a"+slash+"b", "/v1/below"+slash+"a", "/v1"+slash+"exact", slash+"v1/exact", "/v1/exact"+slash)
					}
				}
				each(t, all, bad...)
			},
			Twin: exactly("/v1/below/a/b"),
		},
		{
			ID: "escaped-slash-declared", Class: "path", Title: "`%2F` outside the segment that declares it, empty parts and dot segments behind it",
			Harm: "A capability that needs `%2F` in one place would take it everywhere.",
			Run: func(t *T) {
				id := Provider + "/slashed"
				t.must(t.makeCapability(api.CapabilityCreate{ID: id, Methods: []string{"GET"}, Paths: []string{"/projects/*%2F*/files", "/plain/*"}}))
				for _, p := range []string{"/plain/a%2Fb", "/projects/a%2Fb/files/c%2Fd", "/projects/a%2F..%2F..%2Fadmin/files", "/projects/a%2F%2Fb/files", "/projects/%2Fb/files", "/projects/a%2F/files",
					"/projects/..%2Fb/files", "/projects/a%2F./files", "/projects/a%5Cb/files", "/projects/a%252Fb/files", "/projects/a/b/files"} {
					t.refused(p, call{capability: id, method: "GET", path: p}, bad...)
				}
			},
			Twin: func(t *T) {
				t.passes("%2F where the rule declares it", call{capability: Provider + "/slashed", method: "GET", path: "/projects/a%2Fb/files"})
			},
		},
		{
			ID: "control-bytes", Class: "path", Title: "every control byte, DEL and blank in a path, raw and escaped once and twice",
			Harm: "A line end would begin a header or a request of the caller's own; a NUL would cut a path short.",
			Run: func(t *T) {
				for c := range 0x21 {
					// An escaped space is an honest character.
					if c != ' ' {
						each(t, []string{fmt.Sprintf("/v1/below/a%%%02xb", c), fmt.Sprintf("/v1/below/a%%25%02xb", c)}, bad...)
					}
					each(t, []string{"/v1/below/a" + string(rune(c)) + "b", "/v1/exact" + string(rune(c)), string(rune(c)) + "/v1/exact"}, bad...)
				}
				each(t, []string{"/v1/below/a\x7fb", "/v1/below/a%7fb", "/v1/exact\r\nX-Evil: 1", "/v1/exact HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /admin", "/v1/below/%0d%0aX-Evil:%201", "/v1/exact%00.txt", "/v1/exact%00"}, bad...)
			},
			Twin: exactly("/v1/below/a%20b", "/v1/below/a!b"),
		},
		{
			ID: "unicode-paths", Class: "path", Title: "invalid and overlong UTF-8, letters not in normal form, invisible and direction-changing characters, look-alikes of separators",
			Harm: "Two readers would see two paths.",
			Run: func(t *T) {
				var all []string
				for _, s := range []string{
					"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", // no UTF-8: cut off, overlong, a surrogate, beyond Unicode
					"e\u0301", "\u212b", // not in form C
					"\u200b", "\u200e", "\u202e", "\u2066", "\ufeff", "\u00ad", "\u034f", "\u2060", "\u180e", "\u3000", "\u00a0", "\u2028", "\u2029", "\u0085", "\U000e0041", "\ufe0f", "\ufffd",
					"\u2105", "\u2100", "\uff0f", "\uff0e", "\u2024", "\u2025", "\u2026", "\uff1b", "\uff1f", "\uff03", "\uff05", "\u29f8", "\u2571", "\u2216",
				} {
					all = append(all, "/v1/below/a"+s+"b", "/v1/below/a"+percent(s)+"b")
				}
				each(t, all, bad...)
			},
			Twin: exactly("/v1/below/caf%C3%A9", "/v1/below/%E6%97%A5"),
		},
		{
			ID: "case-and-form-twins", Class: "path", Title: "the right path in another case, or with a letter that folds to the right one",
			Harm: "A file system or router without case would serve what policy did not admit.",
			Run: func(t *T) {
				each(t, []string{"/V1/exact", "/v1/Exact", "/v1/EXACT", "/v1/%65Xact", "/v1/ex\u0430ct", "/v1/exac\u1d57", "/\uff561/exact", "/v1/e%78%41ct"}, bad...)
			},
			Twin: exactly("/v1/exact"),
		},
		{
			ID: "empty-segments", Class: "path", Title: "`//`, a trailing slash after an exact rule, path parameters (`;a=b`, `..;/`)",
			Harm: "Servers merge, drop or cut such segments each in its own way.",
			Run: func(t *T) {
				each(t, []string{"//v1/exact", "/v1//exact", "/v1/exact/", "/v1/exact//", "/v1/below//x", "///", "//evil.test/v1/exact", "/v1/below/..;/admin", "/v1/below/..;a=b/admin", "/v1;a=b/exact",
					"/v1/exact;x", "/v1/exact%3bx", "/v1/exact%3Bx", "/v1/below/;/x", "/;/v1/exact", "/v1/below/.;/x"}, bad...)
			},
			Twin: exactly("/v1/below/x/", "/v1/below/a=b"),
		},
		{
			ID: "fragment", Class: "path", Title: "a fragment, raw and as a look-alike, in path and query",
			Harm: "What stands behind a `#` would be judged and not sent, or sent and not judged.",
			Run: func(t *T) {
				each(t, []string{"/v1/exact#x", "/v1/exact#/../admin", "/v1/below/x#", "#/v1/exact", "/v1/exact?a=b#c", "/v1/below/a\uff03b"}, bad...)
			},
			Twin: exactly("/v1/below/a%23b", "/v1/exact?a=b%23c"),
		},
		{
			ID: "prefix-boundary", Class: "path", Title: "a longer name where a rule ends (`/v1/below-x`, `/v1/belowX`), and what lies above or beside it",
			Harm: "A rule for `/messages` would admit `/messages-delete`.",
			Run: func(t *T) {
				each(t, []string{"/v1/below-x", "/v1/belowx", "/v1/below.json", "/v1/below%2fx", "/v1/belo", "/v1/exact-x", "/v1/exactly", "/v1/exact/x", "/v1", "/v1/", "/", "/v2/exact", "/v1/x/below", "/v1/xbelow", "/deleteBelow", "/v1/below%20/../x"}, bad...)
			},
			Twin: exactly("/v1/below/x", "/v1/below"),
		},
		{
			ID: "target-forms", Class: "path", Title: "absolute, authority and asterisk forms, other schemes, no path at all",
			Harm: "The upstream, or a proxy before it, would take the host out of the target.",
			Run: func(t *T) {
				each(t, []string{"https://evil.test/v1/exact", "http://evil.test/v1/exact", "HTTPS://localhost/v1/exact", "https://" + t.host + "/v1/exact", "//evil.test/v1/exact", "evil.test:443", "evil.test/v1/exact", "*", "v1/exact",
					"?a=b", "@evil.test/v1/exact", ":443/v1/exact", "file:///etc/passwd", "gopher://evil.test/", "\\\\evil.test\\v1\\exact", "/\\evil.test/v1/exact", "https:/v1/exact", "javascript:alert(1)", " /v1/exact"}, bad...)
				t.refused("OPTIONS *", t.honest().with(func(c *call) { c.method, c.path = "OPTIONS", "*" }), bad...)
			},
			Twin: exactly("/v1/below/https:", "/v1/below/@evil.test"),
		},
		{
			ID: "methods", Class: "path", Title: "CONNECT, TRACE, TRACK, OPTIONS, WebDAV's and unknown methods, known ones in other cases, with blanks and line ends, and one that the capability does not list",
			Harm: "A reading capability would write; TRACE would repeat the credential.",
			Run: func(t *T) {
				for _, m := range []string{"CONNECT", "TRACE", "TRACK", "OPTIONS", "PROPFIND", "MOVE", "PURGE", "DEBUG", "get", "Get", "gET", "GET ", " GET", "GET\t", "G\u0415T", "GET\r\nX-A: b", "GET /admin", "GET\x00", "\uff27\uff25\uff34", "PATCH", "", "*", "M-SEARCH", "GETT", "PRI"} {
					t.refused(fmt.Sprintf("method %+q", m), t.honest().to("/v1/below/x").with(func(c *call) { c.method = m }), bad...)
				}
			},
			Twin: func(t *T) {
				for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
					t.passes(m, t.honest().with(func(c *call) { c.method = m }))
				}
			},
		},
		{
			ID: "method-override", Class: "path", Title: "a method in a header or a query parameter, in the spellings that frameworks know",
			Harm: "The upstream would run another method than the one that was judged.",
			Run: func(t *T) {
				for _, h := range []string{"X-HTTP-Method-Override", "X-Http-Method", "X-Method-Override", "x-http-method-override", "X_HTTP_METHOD_OVERRIDE", "X-Method"} {
					t.refused(h, t.honest().saying(h, "DELETE"), bad...)
				}
				for _, q := range []string{"_method=DELETE", "_METHOD=DELETE", "%5fmethod=DELETE", "_method%00=DELETE", ".method=DELETE", "%20_method=DELETE", "+_method=DELETE", "$method=DELETE", "X-HTTP-Method-Override=DELETE", "x_http_method=DELETE", "a=b&_method=DELETE", "_method[]=DELETE", "_method[0]=DELETE", "-method=x"} {
					t.refused(q, t.honest().to("/v1/exact?"+q), bad...)
				}
			},
			Twin: exactly("/v1/exact?method=card", "/v1/exact?a_method=b"),
		},
		{
			ID: "query-separators", Class: "path", Title: "`;` as a separator, control bytes, broken escapes and invalid UTF-8 in a query, names escaped twice",
			Harm: "Policy and upstream would count different parameters.",
			Run: func(t *T) {
				for _, q := range []string{"a=b;c=d", "a;b", "a=b&c=%zz", "a=%", "a=%2", "a=\r\nX: y", "a=\x00", "a=b c", "a=\xff", "a\t=b", "%2561pi_key=x", "api%255fkey=x", "%c0%af=x", "a=b\\\r\n", "\u200bapi_key=x", "api\u200b_key=x"} {
					t.refused(fmt.Sprintf("query %+q", q), t.honest().to("/v1/exact?"+q), bad...)
				}
			},
			Twin: exactly("/v1/exact?a=b+c%20d&a=e&a=f", "/v1/exact?", "/v1/exact?a=%3B", "/v1/exact?expand[]=x&q=%25zz"),
		},
		{
			ID: "auth-parameters", Class: "path", Title: "the query parameters that authenticate, in every case, escape and bracket, repeated and beside the real one",
			Harm: "A caller would bring a credential of their own, or take ours out.",
			Run:  authParameters, Twin: authParametersTwin,
		},
		{
			ID: "long-targets", Class: "path", Title: "targets of 8 KiB and more, as path, as query, and longer once escaped; 10,000 segments",
			Harm: "A target that one side cuts is judged whole and sent in part.",
			Run: func(t *T) {
				for _, p := range []string{"/v1/below/" + strings.Repeat("a", 8<<10), "/v1/exact?" + strings.Repeat("a", 8<<10), "/v1/below/" + strings.Repeat("\u65e5", 2000), "/v1/below" + strings.Repeat("/a", 10_000), "/v1/exact?" + strings.Repeat("\u65e5", 2000), "/v1/below/" + strings.Repeat("a", 1<<20)} {
					t.refused(fmt.Sprintf("%d bytes", len(p)), t.honest().to(p), bad...)
				}
			},
			Twin: func(t *T) {
				t.passes("8,000 bytes", t.honest().to("/v1/below/"+strings.Repeat("a", 8000)))
				t.passes("1,000 segments", t.honest().to("/v1/below"+strings.Repeat("/a", 1000)))
			},
		},
		{
			ID: "rules-of-others", Class: "path", Title: "a path that another capability of the same provider admits, and a capability's name in other spellings",
			Harm: "The unit of permission would be the provider and not the capability.",
			Run: func(t *T) {
				c := t.honest()
				t.refused("the path of another capability", c.to("/honest"), bad...)
				for _, id := range []string{strings.ToUpper(c.capability), c.capability + "/", "/" + c.capability, c.capability + " ", c.capability + "\x00", Provider + "/*", "*", "*/*", Provider, c.capability + "/../honest", strings.Replace(c.capability, "/", "%2f", 1), "", "a/b", "\u0430ivault-attack/honest"} {
					t.variants++
					a := t.Stand.call(c.with(func(c *call) { c.capability = id }))
					// It is recorded under what was named, cut and escaped, which
					// audit attacks look at.
					t.checkRefusal(fmt.Sprintf("capability %+q", id), "", a, api.InvalidRequest, api.CapabilityNotFound, api.PolicyViolation)
				}
			},
			Twin: exactly("/v1/exact"),
		},
	}
}

// percent escapes every byte.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

// queryAuth makes a credential that authenticates by a query parameter, once.
func (t *T) queryAuth(param string) (c call, decoy string) {
	_, capability, decoy := t.credential(func(r *api.CredentialCreate) { r.Auth = &api.AuthSpec{Type: "query", ParamName: param} })
	return call{capability: capability, method: "GET", path: "/v1/below/x", auth: "-"}, decoy
}

func authParameters(t *T) {
	c, _ := t.queryAuth("site_key")
	variants := func(name string) []string {
		all := []string{name, strings.ToUpper(name), strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(name, "_", "."), strings.ReplaceAll(name, "_", "+"), strings.ReplaceAll(name, "_", ""), name + "[]", name + "[a]", name + "%5B%5D", "%20" + name, name + "%20", percent(name)}
		for i := range len(name) {
			all = append(all, name[:i]+percent(name[i:i+1])+name[i+1:])
		}
		return all
	}
	for _, name := range []string{"access_token", "api_key", "apikey", "oauth_token"} {
		for _, v := range variants(name) {
			t.refused(v, t.honest().to("/v1/exact?"+v+"=mine"), api.PolicyViolation, api.InvalidRequest)
		}
	}
	for _, v := range variants("site_key") {
		t.refused(v, c.to("/v1/below/x?"+v+"=mine"), api.PolicyViolation, api.InvalidRequest)
		t.refused(v+" without a value", c.to("/v1/below/x?a=b&"+v), api.PolicyViolation, api.InvalidRequest)
	}
	for _, v := range []string{"s\u0131te_key", "\u017fite_key", "\uff53ite_key", "site_\u212aey"} {
		t.refused(fmt.Sprintf("%+q", v), c.to("/v1/below/x?"+percent(v)+"=mine"), api.PolicyViolation, api.InvalidRequest)
	}
}

func authParametersTwin(t *T) {
	c, decoy := t.queryAuth("site_key")
	a := t.Stand.call(c.to("/v1/below/x?site=1&key=2"))
	seen := t.up.Take()
	want := "GET /v1/below/x?site=1&key=2&site_key=" + queryEscape(decoy) + " HTTP/1.1\r\n"
	if a.status != 200 || len(seen) != 1 || !strings.HasPrefix(string(seen[0].Head), want) {
		t.Errorf("twin: other parameters beside the one that authenticates: status %d %s", a.status, a.code)
		return
	}
	t.noLeak("twin", a)
	t.twins++
}

// queryEscape escapes as a form does.
func queryEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
