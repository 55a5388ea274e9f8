package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

// output is what -o asks for: text, wide text where there is more to say, or one of kubectl's formats.
type output struct {
	flags *genericclioptions.PrintFlags
	// texts are the words for text that the command knows besides none.
	texts []string
}

// outputVersion is the version of what -o json prints.
const outputVersion = "kubectl.servicegroup.dev/v1alpha1"

// newOutput gives a command the flag -o, and has it refuse formats that there are not.
func newOutput(cmd *cobra.Command, texts ...string) *output {
	o := &output{flags: genericclioptions.NewPrintFlags(""), texts: texts}
	cmd.PreRunE = func(*cobra.Command, []string) error { return o.validate() }
	o.flags.NamePrintFlags = nil
	o.flags.AddFlags(cmd)
	cmd.Flag("output").Usage = "json, yaml, jsonpath=..., go-template=..."
	for _, text := range texts {
		cmd.Flag("output").Usage += ", " + text
	}
	// It fails only for a flag that there is not.
	_ = cmd.RegisterFlagCompletionFunc("output", words(append([]string{"json", "yaml", "jsonpath=", "go-template="}, texts...)...))
	return o
}

func (o *output) format() string { return *o.flags.OutputFormat }

// isText says whether it is for people.
func (o *output) isText() bool { return o.format() == "" || slices.Contains(o.texts, o.format()) }

// validate refuses a format that there is not.
func (o *output) validate() error {
	if o.isText() {
		return nil
	}
	if _, err := o.flags.ToPrinter(); err != nil {
		return misusef("-o %s: %w", o.format(), err)
	}
	return nil
}

func (o *output) width() describe.Width {
	if o.format() == "wide" {
		return describe.Wide
	}
	return describe.Narrow
}

// render is a value as text for people, or in one of kubectl's formats.
func render[T any](o *output, kind string, value T, text func(T) string) (string, error) {
	if o.isText() {
		return text(value), nil
	}
	var out strings.Builder
	err := o.print(&out, kind, value)
	return out.String(), err
}

// show prints what render makes, and with again goes on so whenever it changes.
func (p *plugin) show(ctx context.Context, format *output, again bool, open func(context.Context) (*changes, error), render func(context.Context) (string, error)) error {
	if again {
		return p.follow(ctx, format, open, render)
	}
	return p.print(render(ctx))
}

// print prints what was rendered, unless that failed.
func (p *plugin) print(text string, err error) error {
	if err != nil {
		return err
	}
	if _, err := fmt.Fprint(p.Out, text); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// print prints a value in one of kubectl's formats, as an object of a kind.
func (o *output) print(out io.Writer, kind string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(text, &object); err != nil {
		return fmt.Errorf("encoding the output: %w", err)
	}
	object["apiVersion"], object["kind"] = outputVersion, kind
	printer, err := o.flags.ToPrinter()
	if err != nil {
		return misusef("-o %s: %w", o.format(), err)
	}
	return printer.PrintObj(&unstructured.Unstructured{Object: object}, out)
}

// isTerminal says whether somebody looks at it.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// paint gives text colours on a terminal whose user has nothing against them (no-color.org).
func paint(out io.Writer) describe.Paint {
	return describe.Paint(isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}
