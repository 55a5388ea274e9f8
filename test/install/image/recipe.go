package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Recipe is the Dockerfile as docker build reads it.
type Recipe struct {
	// Compiler is the image that the first stage starts from, unless the user says another.
	Compiler string
	Stages   []instructions.Stage
	// Warnings are the parser's.
	Warnings []parser.Warning
}

// ReadRecipe reads the Dockerfile.
func ReadRecipe(repository string) (*Recipe, error) {
	file, err := os.Open(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		return nil, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("parsing the Dockerfile: %w", err)
	}
	stages, arguments, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	compiler := stages[0].BaseName
	for _, argument := range arguments {
		for _, arg := range argument.Args {
			compiler = strings.ReplaceAll(compiler, "$"+arg.Key, arg.ValueString())
		}
	}
	return &Recipe{Compiler: compiler, Stages: stages, Warnings: parsed.Warnings}, nil
}
