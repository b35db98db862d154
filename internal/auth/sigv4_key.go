package auth

import (
	"bytes"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"moldable.sh/aivault/internal/api"
	"moldable.sh/aivault/internal/secret"
	"moldable.sh/aivault/internal/strictjson"
)

// awsKey is what signs.
type awsKey struct {
	id, secret, session secret.Value
	until               time.Time // zero: it does not end, or does not say when
}

func (k awsKey) wipe() { wipeAll(k.id, k.secret, k.session) }

// key is the key among the fields: by its three names, which a token that was
// had for a role has too, or in the one field that holds it whole.
func (s *sigV4) key(in Input) (awsKey, error) {
	if s.profile != "" && in.Fields[awsSecret].IsZero() {
		v := in.Fields[s.profile]
		if v.IsZero() {
			return awsKey{}, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", s.profile).
				WithHint("see what it lacks: aivault credential list")
		}
		k, err := readAWSKey(s.profile, v)
		if err != nil {
			return awsKey{}, err
		}
		if !k.until.IsZero() && !in.Now.Before(k.until) {
			k.wipe()
			return awsKey{}, unfit(s.profile, "is of a session that ended at "+k.until.UTC().Format(time.RFC3339))
		}
		return k, nil
	}
	for _, f := range s.templates() {
		if name := f[0].field; s.profile == "" && in.Fields[name].IsZero() {
			return awsKey{}, api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", name).
				WithHint("see what it lacks: aivault credential list")
		}
	}
	// The key of a role has a session token, whatever the credential's own has.
	k := awsKey{id: in.Fields[awsKeyID].Clone(), secret: in.Fields[awsSecret].Clone(), session: in.Fields[awsSession].Clone()}
	for name, v := range map[string]secret.Value{awsKeyID: k.id, awsSecret: k.secret, awsSession: k.session} {
		if err := checkAWSPart(name, name, v.Expose()); err != nil {
			k.wipe()
			return awsKey{}, err
		}
	}
	if s.profile == "" && bytes.HasPrefix(k.id.Expose(), []byte("ASIA")) && k.session.IsZero() {
		k.wipe()
		return awsKey{}, api.Errorf(api.AuthFailed, "auth: the key is a temporary one (ASIA…), and its session token, field %q, is missing", awsSession).
			WithHint("store the three values that were given out together")
	}
	return k, nil
}

// try implements tryer: of the three values, those that are there are looked
// at.
func (s *sigV4) try(in Input, have map[string]bool) error {
	if s.profile != "" {
		if !have[s.profile] {
			return nil
		}
		k, err := s.key(in)
		k.wipe()
		return err
	}
	for _, name := range []string{awsKeyID, awsSecret, awsSession} {
		if !have[name] {
			continue
		}
		if in.Fields[name].IsZero() {
			return api.Errorf(api.AuthFailed, "auth: the credential has no value for its field %q", name)
		}
		if err := checkAWSPart(name, name, in.Fields[name].Expose()); err != nil {
			return err
		}
	}
	return nil
}

// checkAWSPart refuses what cannot be part of a signature. part is one of the
// three names, field the credential's.
func checkAWSPart(field, part string, value []byte) error {
	if err := printable(field, value); err != nil {
		return err
	}
	for _, c := range value {
		switch {
		case c >= 0x7f:
			return unfit(field, "holds a character that is not ASCII")
		case c == ' ', part == awsKeyID && strings.IndexByte("/,=", c) >= 0:
			return unfit(field, "holds a character that an AWS key does not have")
		}
	}
	return nil
}

// readAWSKey reads the shapes in which people have a whole key: a profile of
// ~/.aws/credentials, lines that set the variables AWS_ACCESS_KEY_ID and so
// on, or JSON as credential_process, `aws sts` and `aws iam
// create-access-key` print it. Errors name the field and repeat nothing.
func readAWSKey(field string, v secret.Value) (awsKey, error) {
	text := bytes.TrimSpace(v.Expose())
	parts := map[string][]byte{}
	defer func() {
		for _, b := range parts {
			clear(b)
		}
	}()
	var err error
	if len(text) > 0 && text[0] == '{' {
		err = readAWSJSON(field, text, parts)
	} else {
		err = readAWSProfile(field, text, parts)
	}
	if err != nil {
		return awsKey{}, err
	}
	for _, part := range []string{awsKeyID, awsSecret} {
		if len(parts[part]) == 0 {
			return awsKey{}, unfit(field, "holds no "+part+": it takes a profile of ~/.aws/credentials, or JSON with AccessKeyId and SecretAccessKey")
		}
	}
	var k awsKey
	for part, b := range parts {
		if part == awsUntil {
			continue
		}
		if err := checkAWSPart(field, part, b); err != nil {
			return awsKey{}, err
		}
	}
	if until := parts[awsUntil]; len(until) > 0 {
		if k.until, err = time.Parse(time.RFC3339, string(until)); err != nil {
			return awsKey{}, unfit(field, "says when its session ends in a form that is no time")
		}
	}
	k.id, k.secret, k.session = secret.New(bytes.Clone(parts[awsKeyID])), secret.New(bytes.Clone(parts[awsSecret])), secret.New(bytes.Clone(parts[awsSession]))
	return k, nil
}

// awsUntil is the part that says when a session ends.
const awsUntil = "expiration"

// awsPart is the part that a name stands for, in whatever way it is written:
// AccessKeyId, accessKeyId, access_key_id, aws_access_key_id.
func awsPart(name string) string {
	switch strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(name), "_", ""), "aws") {
	case "accesskeyid":
		return awsKeyID
	case "secretaccesskey":
		return awsSecret
	case "sessiontoken", "securitytoken":
		return awsSession
	case "expiration", "credentialexpiration":
		return awsUntil
	}
	return ""
}

// readAWSJSON fills parts from an object, or from the one within it that the
// aws command wraps around a key.
func readAWSJSON(field string, text []byte, parts map[string][]byte) error {
	object := map[string]jsontext.Value{}
	// The decoder's own error could repeat a name that is really a part of
	// the secret.
	if strictjson.Unmarshal(text, &object) != nil {
		return unfit(field, "begins like JSON, and is not valid")
	}
	defer func() {
		for _, v := range object {
			clear(v)
		}
	}()
	for _, wrapped := range []string{"Credentials", "AccessKey"} {
		if inner := object[wrapped]; len(inner) > 0 && inner[0] == '{' {
			return readAWSJSON(field, inner, parts)
		}
	}
	for name, raw := range object {
		part := awsPart(name)
		if part == "" || string(raw) == "null" {
			continue
		}
		var value secret.Value
		if value.UnmarshalJSON(raw) != nil {
			return unfit(field, "holds a "+part+" that is no text")
		}
		if _, twice := parts[part]; twice {
			value.Wipe()
			return unfit(field, "holds "+part+" twice")
		}
		parts[part] = value.Expose()
	}
	return nil
}

// readAWSProfile fills parts from the only profile of a text, or from its
// default one.
func readAWSProfile(field string, text []byte, parts map[string][]byte) error {
	sections := 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '[' {
			sections++
		}
	}
	taken, within, found := 0, sections == 0, sections == 0
	for line := range bytes.Lines(text) {
		nested := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			within = sections == 1 || isDefault(line)
			found = found || within
			continue
		}
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok {
			return unfit(field, "is neither a profile of ~/.aws/credentials nor JSON")
		}
		if !within || nested && sections > 0 {
			continue
		}
		if err := takeAWSLine(field, string(bytes.TrimSpace(name)), bytes.TrimSpace(value), parts); err != nil {
			return err
		}
		taken++
	}
	if !found {
		return unfit(field, "holds several profiles, and none is [default]")
	}
	if taken == 0 {
		return unfit(field, "is neither a profile of ~/.aws/credentials nor JSON")
	}
	return nil
}

func isDefault(line []byte) bool {
	name := strings.Fields(strings.Trim(string(line), "[]"))
	return len(name) > 0 && name[len(name)-1] == "default" && (len(name) == 1 || len(name) == 2 && name[0] == "profile")
}

// takeAWSLine takes one setting of a profile. Those that stand for a key which
// is elsewhere are refused: they would do nothing.
func takeAWSLine(field, name string, value []byte, parts map[string][]byte) error {
	name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
	switch lower := strings.ToLower(name); {
	case lower == "role_arn" || lower == "source_profile":
		return unfit(field, "is a profile that assumes a role: store the key that may assume it, and name the role with --role-arn")
	case strings.HasPrefix(lower, "sso_") || lower == "credential_process" || lower == "credential_source" || lower == "web_identity_token_file":
		return unfit(field, "is a profile that says where a key is had, and holds none")
	}
	part := awsPart(name)
	if part == "" {
		return nil // the region and such: the host says those
	}
	if _, twice := parts[part]; twice {
		return unfit(field, "holds "+part+" twice")
	}
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	parts[part] = bytes.Clone(value)
	return nil
}

// parts implements partial: what a whole key is made of, but for its id, which
// is no secret.
func (s *sigV4) parts(fields map[string]secret.Value) []secret.Value {
	if s.profile == "" || fields[s.profile].IsZero() {
		return nil
	}
	k, err := readAWSKey(s.profile, fields[s.profile])
	if err != nil {
		return nil
	}
	k.id.Wipe()
	out := []secret.Value{k.secret}
	if !k.session.IsZero() {
		out = append(out, k.session)
	}
	return out
}
