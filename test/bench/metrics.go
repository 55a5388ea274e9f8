package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// series is a histogram in a proxy's own metrics; label, if set, is one that it must have.
type series struct{ name, label string }

// reading is what a histogram says: how often and how long in total.
type reading struct {
	count int
	sum   time.Duration
}

func (r reading) since(earlier reading) reading {
	return reading{r.count - earlier.count, r.sum - earlier.sum}
}

// scraper reads the metrics of a process on a host.
type scraper struct {
	client *http.Client
	url    string
}

func newScraper(host *lab.Host, url string) *scraper {
	return &scraper{client: host.HTTPClient(true), url: url}
}

// read returns the histogram; one that has not observed anything is zero.
func (s *scraper) read(ctx context.Context, want series) (reading, error) {
	var r reading
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return r, fmt.Errorf("reading metrics: %w", err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return r, fmt.Errorf("reading metrics: %w", err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		suffix, value, ok := want.match(lines.Text())
		switch {
		case !ok:
		case suffix == "_sum":
			r.sum += time.Duration(value * float64(time.Second))
		case suffix == "_count":
			r.count += int(value)
		}
	}
	return r, nil
}

// match takes a line apart if it belongs to the series.
func (s series) match(line string) (suffix string, value float64, ok bool) {
	rest, ok := strings.CutPrefix(line, s.name)
	if !ok || !strings.Contains(rest, s.label) {
		return "", 0, false
	}
	key, number, ok := strings.Cut(rest, " ")
	if !ok {
		return "", 0, false
	}
	suffix, _, _ = strings.Cut(key, "{")
	value, err := strconv.ParseFloat(number, 64)
	return suffix, value, err == nil
}
