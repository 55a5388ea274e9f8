package install

import (
	"slices"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/image"
)

// TestRecipe looks for what a build with buildah, which TestImage makes, would not show: the compiler runs
// on the machine that builds, and what BuildKit says of the platform is not hidden by a default.
func TestRecipe(t *testing.T) {
	root, err := lab.ModuleRoot()
	must(t, "finding the repository", err)
	recipe, err := image.ReadRecipe(root)
	must(t, "reading the recipe", err)
	if len(recipe.Warnings) > 0 {
		t.Errorf("the Dockerfile has warnings: %v", recipe.Warnings)
	}
	stages := recipe.Stages
	if len(stages) != 2 || stages[0].Platform != "$BUILDPLATFORM" {
		t.Fatalf("the Dockerfile has %d stages, the first on %q", len(stages), stages[0].Platform)
	}
	var without []string
	for _, command := range stages[0].Commands {
		if command, ok := command.(*instructions.ArgCommand); ok {
			for _, arg := range command.Args {
				if arg.Value == nil {
					without = append(without, arg.Key)
				}
			}
		}
	}
	if !slices.Equal(without, []string{"TARGETOS", "TARGETARCH"}) {
		t.Errorf("the arguments without a default are %v", without)
	}
}
