package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// prometheus is a Prometheus without a server.
type prometheus struct {
	storage *teststorage.TestStorage
	engine  *promql.Engine
}

// newPrometheus has the series that are written down, in the notation of promtool's tests.
func newPrometheus(t *testing.T, series string) *prometheus {
	t.Helper()
	p := &prometheus{storage: promqltest.LoadedStorage(t, series), engine: promqltest.NewTestEngine(t, false, 0, 10_000_000)}
	t.Cleanup(func() {
		if err := p.storage.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// target is a program that is scraped, as a ServiceMonitor would have it.
type target struct {
	job, instance string
	from          *lab.Host
	url           string
}

// scrape reads the metrics of a target; a target that does not answer is down.
func (p *prometheus) scrape(ctx context.Context, of target) error {
	at, up := time.Now().UnixMilli(), 1.0
	text, err := get(ctx, of)
	if err != nil {
		text, up = nil, 0
	}
	app := p.storage.Appender(ctx)
	add := func(l labels.Labels, value float64) {
		all := labels.NewBuilder(l)
		all.Set("job", of.job).Set("instance", of.instance)
		_, appendErr := app.Append(0, all.Labels(), at, value)
		err = errors.Join(err, appendErr)
	}
	add(labels.FromStrings(model.MetricNameLabel, "up"), up)
	parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, parseErr := parser.Next()
		if errors.Is(parseErr, io.EOF) {
			return errors.Join(err, app.Commit())
		}
		if parseErr != nil {
			return errors.Join(err, parseErr, app.Rollback())
		}
		if entry == textparse.EntrySeries {
			var l labels.Labels
			parser.Labels(&l)
			_, _, value := parser.Series()
			add(l, value)
		}
	}
}

func get(ctx context.Context, of target) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, of.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := of.from.HTTPClient(false).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", of.url, response.Status)
	}
	return body, err
}

// during evaluates a query for each second of a time.
func (p *prometheus) during(ctx context.Context, query string, start, end time.Time) (promql.Matrix, error) {
	q, err := p.engine.NewRangeQuery(ctx, p.storage, nil, query, start, end, time.Second)
	if err != nil {
		return nil, err
	}
	return q.Exec(ctx).Matrix()
}

// at evaluates a query at one time.
func (p *prometheus) at(ctx context.Context, query string, when time.Time) (promql.Vector, error) {
	q, err := p.engine.NewInstantQuery(ctx, p.storage, nil, query, when)
	if err != nil {
		return nil, err
	}
	return q.Exec(ctx).Vector()
}
