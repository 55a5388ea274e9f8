package stories

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestS13SessionAffinity: a client keeps its pod; after the timeout it may get another; the clients of
// a dead pod move and the others stay.
func TestS13SessionAffinity(t *testing.T) {
	s := newScene(t, "s13")
	carts := s.run("cart", 3, map[string]string{"app": "cart"})
	// That all of them choose the same pod twice by chance has a probability of 3^-18.
	clients := s.run("client", 18, nil)
	s.apply("session-affinity.yaml")
	vip := s.service("cart").Spec.ClusterIP
	for _, client := range clients {
		await(t, "the entry point answers", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, attempt)
			defer cancel()
			_, err := client.Ask(ctx, "tcp", inside(client, vip, 80).address)
			return err
		})
	}

	// The first packets may have come while pods were still being added; from now on nothing changes.
	s.awaitForgotten(clients)
	first := s.askAll(clients, vip)
	for range 10 {
		if again := s.askAll(clients, vip); !slices.Equal(again, first) {
			t.Fatalf("clients lost their pods:\n%v, before\n%v", again, first)
		}
	}
	s.awaitForgotten(clients)
	second := s.askAll(clients, vip)
	if slices.Equal(second, first) {
		t.Errorf("after the timeout every client came to the same pod as before: %v", second)
	}

	dead := carts[0]
	if err := s.DeletePod(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	for i, client := range clients {
		to := inside(client, vip, 80)
		if second[i] == dead.Host.Name {
			second[i] = s.awaitMove(to, dead)
		}
	}
	if third := s.askAll(clients, vip); !slices.Equal(third, second) {
		t.Errorf("after %s died the clients are at\n%v, want\n%v", dead.PodName, third, second)
	}
}

// askAll asks from every client and returns who answered, in their order.
func (s *scene) askAll(clients []*lab.Pod, vip string) []string {
	s.t.Helper()
	var answers []string
	for _, client := range clients {
		answer, err := client.Ask(s.t.Context(), "tcp", inside(client, vip, 80).address)
		if err != nil {
			s.t.Fatalf("asking from %s: %v", client.PodName, err)
		}
		answers = append(answers, answer)
	}
	return answers
}

// awaitMove waits until the client gets an answer again and returns from whom.
func (s *scene) awaitMove(to target, dead *lab.Pod) string {
	s.t.Helper()
	answer := ""
	await(s.t, to.String()+" moves away from "+dead.PodName, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		answer, err = to.from.Ask(ctx, to.network, to.address)
		return err
	})
	return answer
}

// awaitForgotten waits until no node remembers one of the clients. Asking would make them remember, so it
// looks into the kernel.
func (s *scene) awaitForgotten(clients []*lab.Pod) {
	s.t.Helper()
	await(s.t, "the nodes have forgotten the clients", func(ctx context.Context) error {
		for _, node := range s.Nodes() {
			out, err := node.Output(ctx, "nft", "list", "map", "ip", "servicegroup", "affinity")
			if err != nil {
				return err
			}
			for _, client := range clients {
				if strings.Contains(out, client.IPv4.String()+" . ") {
					return fmt.Errorf("%s remembers %s", node.Name, client.PodName)
				}
			}
		}
		return nil
	})
}
