package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"path/filepath"
	"strings"

	"moldable.sh/aivault/internal/client"
)

// multipartBody builds a multipart/form-data body that is read from its files
// while it is sent. Its length is known before when every file's is.
func (f *callFlags) multipartBody(ctx context.Context, o *Options, p *prepared) error {
	r := &p.call.Request
	if hasHeader(r.Headers, "content-type") {
		o.notice("the content-type header is ignored: a multipart body has its own")
		kept := r.Headers[:0]
		for _, h := range r.Headers {
			if !strings.EqualFold(h.Name, "content-type") {
				kept = append(kept, h)
			}
		}
		r.Headers = kept
	}
	b := &multipartBuilder{boundary: "aivault-" + rand.Text()}
	p.close = b.close
	for _, pair := range f.multipart {
		name, value, err := splitPair("multipart-field", pair)
		if err != nil {
			return err
		}
		b.field(name, value)
	}
	for _, pair := range f.files {
		name, path, err := splitPair("multipart-file", pair)
		if err == nil {
			err = b.file(ctx, o, name, path)
		}
		if err != nil {
			return errors.Join(err, b.close())
		}
	}
	p.body = b.body()
	r.Headers = withContentType(r.Headers, "multipart/form-data; boundary="+b.boundary)
	return nil
}

// multipartBuilder gathers the pieces of a body.
type multipartBuilder struct {
	boundary string
	pieces   []io.Reader
	length   int64 // -1: unknown
	open     []io.Closer
}

func (b *multipartBuilder) text(s string) {
	b.pieces = append(b.pieces, strings.NewReader(s))
	if b.length >= 0 {
		b.length += int64(len(s))
	}
}

func (b *multipartBuilder) field(name, value string) {
	b.text("--" + b.boundary + "\r\nContent-Disposition: form-data; name=\"" + quotePart(name) + "\"\r\n\r\n" + value + "\r\n")
}

func (b *multipartBuilder) file(ctx context.Context, o *Options, name, path string) error {
	s, err := o.open(ctx, "multipart-file", path)
	if err != nil {
		return err
	}
	b.open = append(b.open, s)
	file := s.name
	if file == "" {
		file = "stdin"
	}
	contentType := mime.TypeByExtension(filepath.Ext(file))
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	b.text("--" + b.boundary + "\r\nContent-Disposition: form-data; name=\"" + quotePart(name) +
		"\"; filename=\"" + quotePart(file) + "\"\r\nContent-Type: " + contentType + "\r\n\r\n")
	if s.size < 0 {
		b.length = -1
		b.pieces = append(b.pieces, s)
	} else {
		b.pieces = append(b.pieces, &exactReader{r: s, left: s.size, name: s.name})
		if b.length >= 0 {
			b.length += s.size
		}
	}
	b.text("\r\n")
	return nil
}

func (b *multipartBuilder) body() client.Body {
	b.text("--" + b.boundary + "--\r\n")
	return client.Body{Reader: io.MultiReader(b.pieces...), Length: b.length}
}

func (b *multipartBuilder) close() error {
	var err error
	for _, c := range b.open {
		err = errors.Join(err, c.Close())
	}
	b.open = nil
	return err
}

// quotePart escapes a name as browsers do (WHATWG HTML, multipart/form-data):
// no name can end its quotes or its line. Other control characters, which some
// servers take for line ends too, are escaped the same way.
func quotePart(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c == '"' || c < 0x20 || c == 0x7f {
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
