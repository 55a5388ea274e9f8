package docs

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// page is a Markdown file.
type page struct {
	path    string // from the root of the repository
	blocks  []block
	spans   []span // code within sentences
	links   []span
	anchors []string
	needs   []string // manifests that the reader has applied already
	// meanwhile is what happens while a command waits to be interrupted.
	meanwhile event
}

// event is a script that is run on a host.
type event struct{ host, script string }

// block is a code block. Without a fence, its language is empty.
type block struct {
	line     int
	language string
	note     string // what follows the language
	text     string
}

// span is a piece of a sentence.
type span struct {
	line int
	text string
}

var (
	needsComment     = regexp.MustCompile(`(?m)^<!-- needs: (.*) -->$`)
	meanwhileComment = regexp.MustCompile(`(?m)^<!-- meanwhile on (\w+): (.*) -->$`)
)

// readPages reads all pages once.
var readPages = sync.OnceValues(func() ([]page, error) {
	root, err := lab.ModuleRoot()
	if err != nil {
		return nil, err
	}
	var pages []page
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dist", "testdata"}, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		pages = append(pages, parsePage(relative, source))
		return err
	})
	return pages, err
})

func allPages(t *testing.T) []page {
	t.Helper()
	pages, err := readPages()
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("found only %d pages", len(pages))
	}
	return pages
}

func parsePage(path string, source []byte) page {
	p := page{path: path}
	for _, found := range needsComment.FindAllSubmatch(source, -1) {
		p.needs = append(p.needs, strings.Fields(string(found[1]))...)
	}
	if found := meanwhileComment.FindSubmatch(source); found != nil {
		p.meanwhile = event{host: string(found[1]), script: string(found[2])}
	}
	line := 1
	document := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	// The walk calls this for nodes only, and no call of it fails.
	_ = ast.Walk(document, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if node.Type() == ast.TypeBlock && node.Lines() != nil && node.Lines().Len() > 0 {
			line = 1 + bytes.Count(source[:node.Lines().At(0).Start], []byte("\n"))
		}
		p.add(node, source, line)
		return ast.WalkContinue, nil
	})
	return p
}

func (p *page) add(node ast.Node, source []byte, line int) {
	switch node := node.(type) {
	case *ast.FencedCodeBlock:
		b := block{line: line, text: string(node.Lines().Value(source))}
		if node.Info != nil {
			b.language, b.note, _ = strings.Cut(string(node.Info.Value(source)), " ")
		}
		p.blocks = append(p.blocks, b)
	case *ast.CodeBlock:
		p.blocks = append(p.blocks, block{line: line, text: string(node.Lines().Value(source))})
	case *ast.CodeSpan:
		p.spans = append(p.spans, span{line, textOf(node, source)})
	case *ast.Link:
		p.links = append(p.links, span{line, string(node.Destination)})
	case *ast.Image:
		p.links = append(p.links, span{line, string(node.Destination)})
	case *ast.Heading:
		p.anchors = append(p.anchors, newAnchor(textOf(node, source), p.anchors))
	}
}

// textOf is what a reader sees of a node.
func textOf(node ast.Node, source []byte) string {
	var out strings.Builder
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		if leaf, ok := child.(*ast.Text); ok {
			out.Write(leaf.Value(source))
			if leaf.SoftLineBreak() {
				out.WriteByte(' ')
			}
			continue
		}
		out.WriteString(textOf(child, source))
	}
	return out.String()
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// newAnchor is the name by which a heading can be linked to, as GitHub makes it.
func newAnchor(heading string, taken []string) string {
	anchor := strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
	for n, base := 1, anchor; slices.Contains(taken, anchor); n++ {
		anchor = base + "-" + strconv.Itoa(n)
	}
	return anchor
}
