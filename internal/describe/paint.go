package describe

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Paint says whether text has colours.
type Paint bool

func (p Paint) code(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p Paint) good(text string) string  { return p.code("32", text) }
func (p Paint) warn(text string) string  { return p.code("33", text) }
func (p Paint) bad(text string) string   { return p.code("31", text) }
func (p Paint) faint(text string) string { return p.code("2", text) }
func (p Paint) title(text string) string { return p.code("1", text) }

// lines is text being written.
type lines struct{ strings.Builder }

func (l *lines) add(format string, args ...any) {
	fmt.Fprintf(&l.Builder, format, args...)
	l.WriteByte('\n')
}

// table is rows of cells that are laid out in columns.
type table struct {
	indent string
	rows   [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write puts two spaces between columns. Colours have no width.
func (t *table) write(l *lines) {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		line.WriteString(t.indent)
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-width(cell)+2))
			}
		}
		l.add("%s", strings.TrimRight(line.String(), " "))
	}
}

// width is how many characters of a cell are seen.
func width(cell string) int {
	n := 0
	for {
		start := strings.Index(cell, "\x1b[")
		if start < 0 {
			return n + utf8.RuneCountInString(cell)
		}
		n += utf8.RuneCountInString(cell[:start])
		end := strings.IndexByte(cell[start:], 'm')
		if end < 0 {
			return n
		}
		cell = cell[start+end+1:]
	}
}

// plural is "1 pod" or "2 pods".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "s") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}
