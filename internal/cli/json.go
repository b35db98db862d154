package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/client"
	"moldable.sh/aivault/internal/strictjson"
)

// maxJSONAnswer bounds an answer that is read whole.
const maxJSONAnswer = 64 << 20

func newJSON(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "json CAPABILITY",
		Short: "Call a capability and print what was planned and answered as one JSON object",
		Long: "Makes one call as invoke does, and prints {\"planned\",\"response\"}. The response has its status\n" +
			"and \"json\", or \"text\" or \"bodyBase64\" where the body is not JSON. Numbers and the order of\n" +
			"names are the upstream's.",
		Example:           "  aivault json github/user-read | jq .response.json.login",
		ValidArgsFunction: o.completeCapability,
	}
	f := newCallFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return f.run(o, cmd, args, f.showJSON) }
	return cmd
}

// jsonAnswer is what json prints.
type jsonAnswer struct {
	Planned  api.Planned  `json:"planned"`
	Response jsonResponse `json:"response"`
}

type jsonResponse struct {
	Status     int            `json:"status"`
	JSON       jsontext.Value `json:"json,omitzero"`
	Text       *string        `json:"text,omitzero"`
	BodyBase64 *string        `json:"bodyBase64,omitzero"`
}

// showJSON reads the answer whole and prints it as one object.
func (f *callFlags) showJSON(_ context.Context, o *Options, a *client.Answer) error {
	body, err := readLimited(a.Body, maxJSONAnswer)
	if errors.Is(err, errTooLong) {
		return api.Errorf(api.ResponseTooLarge, "the answer is longer than %d MiB, which json reads whole", maxJSONAnswer>>20).
			WithHint("use aivault invoke with -o FILE")
	}
	if err != nil {
		return err
	}
	text, err := renderAnswer(a.Planned, a.Status, body)
	if err != nil {
		return err
	}
	if f.writesFile() {
		if f.fail && a.Status >= http.StatusBadRequest {
			return nil
		}
		return writeOutput(f.output, bytes.NewReader(text))
	}
	return o.print(text)
}

// renderAnswer builds the object. The upstream's JSON goes in as it is: its
// numbers, its strings and the order of its names.
func renderAnswer(planned api.Planned, status int, body []byte) ([]byte, error) {
	answer := jsonAnswer{Planned: planned, Response: jsonResponse{Status: status}}
	raw := jsontext.Value(bytes.TrimSpace(body))
	isJSON := raw.IsValid(jsontext.AllowDuplicateNames(true))
	switch {
	case isJSON:
		answer.Response.JSON = jsontext.Value("null") // replaced below, unparsed
	case utf8.Valid(body):
		s := string(body)
		answer.Response.Text = &s
	default:
		s := base64.StdEncoding.EncodeToString(body)
		answer.Response.BodyBase64 = &s
	}
	line, err := strictjson.Marshal(answer)
	if err != nil {
		return nil, err
	}
	if isJSON {
		head, ok := bytes.CutSuffix(line, []byte("null}}"))
		if !ok {
			return nil, errors.New("cli: the answer's frame is not as expected")
		}
		line = append(append(append([]byte(nil), head...), raw...), "}}"...)
	}
	out := jsontext.Value(line)
	if err := out.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}
