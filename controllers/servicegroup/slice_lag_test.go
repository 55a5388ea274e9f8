package servicegroup

import (
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestSlicesOfUnknownServicesAreNotRemembered(t *testing.T) {
	lag := newSliceLag(clocktesting.NewFakePassiveClock(time.Unix(0, 0)))
	for i := range 100 {
		lag.escaped(types.NamespacedName{Namespace: "tenant", Name: "web/" + strconv.Itoa(i)})
	}
	if n := len(lag.known.entries); n > 0 {
		t.Errorf("%d Services are remembered that nobody lists the slices of, want none", n)
	}
}

func TestAnEscapedSliceIsLookedForOnce(t *testing.T) {
	lag := newSliceLag(clocktesting.NewFakePassiveClock(time.Unix(0, 0)))
	key := types.NamespacedName{Namespace: "tenant", Name: "web"}
	lag.await(key)
	lag.escaped(key)
	if first, second := lag.takeEscaped(key), lag.takeEscaped(key); !first || second {
		t.Errorf("looked for: %t, then %t, want true, then false", first, second)
	}
}
