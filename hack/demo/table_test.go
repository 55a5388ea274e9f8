package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name  string
		tally lab.Tally
		want  string // part of the error; "" for none
	}{
		{"even", lab.Tally{Answers: map[string]int{"a": 500, "b": 500}}, ""},
		{"just even enough", lab.Tally{Answers: map[string]int{"a": 600, "b": 400}}, ""},
		{"uneven", lab.Tally{Answers: map[string]int{"a": 601, "b": 399}}, "a is +20 % off its fair share"},
		{"silent pod", lab.Tally{Answers: map[string]int{"a": 1000}}, "b is -100 % off its fair share"},
		{"another group's pod", lab.Tally{Answers: map[string]int{"a": 500, "b": 499, "c": 1}}, "answered by c"},
		{"failed", lab.Tally{Answers: map[string]int{"a": 500, "b": 499}, Failed: 1, Errors: []error{errors.New("why")}}, "1 connections failed, such as: why"},
		{"nothing", lab.Tally{}, "no connection was made"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := row{target: "here -> there", want: []string{"a", "b"}, tally: test.tally}
			r.judge()
			err := (&table{rows: []row{r}}).judge()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
