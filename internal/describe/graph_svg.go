package describe

import (
	"html"
	"unicode/utf8"
)

// Measures of the drawing, in pixels.
const (
	boxWidth   = 230
	lineHeight = 18
	boxPadding = 10
	gap        = 14
	columnGap  = 110
	margin     = 16
	// boxText is how many characters fit into a box.
	boxText = 34
)

// drawing is an SVG being written.
type drawing struct{ lines }

// rectangle is where a box is.
type rectangle struct{ x, y, width, height int }

func (r rectangle) middle() int { return r.y + r.height/2 }

// SVG is the picture as an image, with nothing to fetch and no script in it.
func (s Status) SVG() string {
	p, d := s.picture(), &drawing{}
	entry := margin
	ports := entry + boxWidth + columnGap
	groups := ports + boxWidth + columnGap
	groupBoxes := make([]rectangle, 0, len(p.groups))
	y := margin
	for i := range p.groups {
		box := d.group(groups, y, &p.groups[i])
		groupBoxes = append(groupBoxes, box)
		y += box.height + gap
	}
	bottom := y
	y = margin
	portBoxes := make([]rectangle, 0, len(p.ports))
	for _, text := range p.ports {
		portBoxes = append(portBoxes, d.box(rectangle{x: ports, y: y, width: boxWidth}, text, "#ffffff", 6))
		y += portBoxes[len(portBoxes)-1].height + gap
	}
	bottom = max(bottom, y)
	entryBox := d.box(rectangle{x: entry, y: max(margin, (bottom-margin)/2-2*lineHeight), width: boxWidth}, p.entry, "#e3ecfa", 22)
	for _, port := range portBoxes {
		d.arrow(entryBox, port, "")
	}
	for _, a := range p.arrows {
		d.arrow(portBoxes[a.port], groupBoxes[a.group], a.label)
	}
	bottom = max(bottom, entryBox.y+entryBox.height+margin)
	out := &lines{}
	out.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`, groups+boxWidth+2*boxPadding+margin, bottom)
	out.add(`<title>%s</title>`, html.EscapeString(s.Namespace+"/"+s.Name))
	out.add(`<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#666"/></marker></defs>`)
	out.add(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	out.WriteString(d.String())
	out.add("</svg>")
	return out.String()
}

// box draws lines of text in a box and returns it with its height.
func (d *drawing) box(r rectangle, text []string, fill string, radius int) rectangle {
	r.height = heightOf(text)
	d.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="%d" fill="%s" stroke="#888"/>`, r.x, r.y, r.width, r.height, radius, fill)
	for i, line := range text {
		d.add(`<text x="%d" y="%d" text-anchor="middle" fill="#222">%s</text>`, r.x+r.width/2, r.y+boxPadding+lineHeight*i+11, html.EscapeString(shorten(line)))
	}
	return r
}

func (d *drawing) group(x, y int, g *pictureGroup) rectangle {
	inner := y + lineHeight + boxPadding
	frame := rectangle{x: x, y: y, width: boxWidth + 2*boxPadding, height: inner - y + gap/2}
	for _, ep := range g.endpoints {
		frame.height += heightOf(ep.lines) + gap/2
	}
	d.add(`<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="#f7f7f7" stroke="#bbb"/>`, frame.x, frame.y, frame.width, frame.height)
	d.add(`<text x="%d" y="%d" font-weight="bold" fill="#222">%s</text>`, frame.x+boxPadding, frame.y+lineHeight, html.EscapeString(shorten(g.title)))
	for _, ep := range g.endpoints {
		inner += d.box(rectangle{x: x + boxPadding, y: inner, width: boxWidth}, ep.lines, stateColour[ep.state], 6).height + gap/2
	}
	return frame
}

func heightOf(text []string) int { return len(text)*lineHeight + 2*boxPadding - 4 }

func (d *drawing) arrow(from, to rectangle, label string) {
	x1, y1, x2, y2 := from.x+from.width, from.middle(), to.x, to.middle()
	bend := (x2 - x1) / 2
	d.add(`<path d="M%d,%d C%d,%d %d,%d %d,%d" fill="none" stroke="#666" marker-end="url(#tip)"/>`, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
	if label != "" {
		d.add(`<text x="%d" y="%d" text-anchor="middle" fill="#444" font-size="12">%s</text>`, x1+bend, (y1+y2)/2-5, html.EscapeString(label))
	}
}

func shorten(text string) string {
	if utf8.RuneCountInString(text) <= boxText {
		return text
	}
	return string([]rune(text)[:boxText-1]) + "…"
}
