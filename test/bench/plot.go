package main

import (
	"fmt"
	"math"
	"strings"
)

// The plot's measures in pixels.
const (
	plotLabels   = 330 // left of the bars
	plotBars     = 380
	plotBar      = 14
	plotTop      = 40
	plotRight    = 130 // for the numbers
	plotRowSpace = 10
)

// plotColors are the bars' colours, in the order of the table's columns.
var plotColors = map[string]string{nameAgent: "#1b7837", nameNFTables: "#762a83", nameIPTables: "#b8a0c8"}

// plot draws the quantities that differ most as bars on a logarithmic scale: an SVG.
func (r *report) plot() string {
	var bars strings.Builder
	y := plotTop
	for _, q := range []quantity{coldTotal, coldSync, changeSyncMedian, settled} {
		for _, size := range r.sizes() {
			if r.get(size, nameAgent, q) == nil || size == 1 {
				continue
			}
			fmt.Fprintf(&bars, `<text x="%d" y="%d" text-anchor="end">%s, %d Services</text>`+"\n",
				plotLabels-8, y+plotBar-3, shortName(q), size)
			for _, proxy := range []string{nameAgent, nameNFTables, nameIPTables} {
				if f := r.get(size, proxy, q); f != nil {
					r.drawBar(&bars, y, proxy, q, f)
					y += plotBar
				}
			}
			y += plotRowSpace
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">
<rect width="100%%" height="100%%" fill="white"/>
%s%s</svg>
`, plotLabels+plotBars+plotRight, y+plotRowSpace, legend(), bars.String())
}

// shortName is what fits beside a bar.
func shortName(q quantity) string {
	name, detail, _ := strings.Cut(q.name, ": ")
	switch q {
	case coldTotal:
		return name + ", from exec [" + q.unit + "]"
	case coldSync, changeSyncMedian:
		return strings.TrimPrefix(name, "one of ten ") + ", own sync [" + q.unit + "]"
	}
	return strings.TrimSpace(name+" "+detail) + " [" + q.unit + "]"
}

// drawBar draws a bar whose length is the logarithm of the value: a thousandth is nothing and a
// thousand is everything.
func (r *report) drawBar(to *strings.Builder, y int, proxy string, q quantity, f *figure) {
	const lowest, decades = -3, 6
	share := (math.Log10(f.median()) - lowest) / decades
	width := math.Round(plotBars * min(1, max(0.005, share)))
	fmt.Fprintf(to, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="%s"/>`+"\n", plotLabels, y, width, plotBar-2, plotColors[proxy])
	text := strings.ReplaceAll(f.text(q), ">", "&gt;")
	text, _, _ = strings.Cut(text, " (")
	fmt.Fprintf(to, `<text x="%.0f" y="%d">%s</text>`+"\n", plotLabels+width+4, y+plotBar-4, text)
}

func legend() string {
	var out strings.Builder
	x := plotLabels
	for _, proxy := range []string{nameAgent, nameNFTables, nameIPTables} {
		fmt.Fprintf(&out, `<rect x="%d" y="14" width="10" height="10" fill="%s"/><text x="%d" y="23">%s</text>`+"\n", x, plotColors[proxy], x+14, proxy)
		x += 140
	}
	fmt.Fprintf(&out, `<text x="%d" y="23" text-anchor="end">logarithmic scale</text>`+"\n", plotLabels-8)
	return out.String()
}
