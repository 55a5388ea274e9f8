package servicegroup

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// The accepted spec is in a ControllerRevision, which the roles edit and view cannot write.
//
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create;patch;delete

// revisionMeta is the metadata of ControllerRevisions, which is all that the cache holds of them.
func revisionMeta() *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevision"))
	return meta
}

// observeRevisions finds the spec that was accepted last.
func (r *Reconciler) observeRevisions(ctx context.Context, s *plan.Snapshot) error {
	key := client.ObjectKeyFromObject(s.Group)
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ControllerRevisionList"))
	err := r.client.List(ctx, list, client.InNamespace(key.Namespace), client.MatchingFields{fieldRevision: key.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return fmt.Errorf("listing ControllerRevisions: %w", err)
	}
	s.Revisions = plan.RevisionsIn(list.Items, s.Group)
	known := r.specs.accepted(key)
	if n := len(s.Revisions); n > 0 && (known == nil || known.Number < s.Revisions[n-1].Number) {
		if known, s.Unreadable, err = r.readAccepted(ctx, s, s.Revisions[n-1]); err != nil {
			return err
		}
		if known != nil {
			r.specs.accept(key, *known)
		}
	}
	if known == nil && s.Unreadable == nil {
		known = plan.AcceptedBefore(s.Service, s.Group)
	}
	s.Accepted = known
	return nil
}

// readAccepted reads the spec of a revision. What cannot be used is no error of the API server, but a
// reason not to touch what is served.
func (r *Reconciler) readAccepted(ctx context.Context, s *plan.Snapshot, revision plan.Revision) (accepted *plan.Accepted, unreadable, err error) {
	accepted = &plan.Accepted{Revision: revision, Spec: &s.Group.Spec, Entry: s.Newest.Entry, Stored: true}
	if revision.Hash == s.Newest.Hash && len(s.Newest.Problems) == 0 {
		return accepted, nil, nil
	}
	stored := &appsv1.ControllerRevision{}
	if err := r.live.Get(ctx, types.NamespacedName{Namespace: s.Group.Namespace, Name: revision.Name}, stored); err != nil {
		return nil, nil, fmt.Errorf("getting ControllerRevision: %w", err)
	}
	if accepted.Spec, unreadable = plan.DecodeSpec(stored); unreadable != nil {
		return nil, unreadable, nil
	}
	if problems := plan.Validate(accepted.Spec); len(problems) > 0 {
		return nil, fmt.Errorf("ControllerRevision %s: %s", revision.Name, problems[0]), nil
	}
	accepted.Entry, unreadable = plan.Resolve(accepted.Spec)
	return accepted, unreadable, nil
}

// storeRevision records the accepted spec, and reports whether it has its place.
func (r *Reconciler) storeRevision(ctx context.Context, s *plan.Snapshot, accepted plan.Accepted) (stored bool, err error) {
	key := client.ObjectKeyFromObject(s.Group)
	err = r.client.Create(ctx, plan.NewRevision(s.Group, &accepted), client.FieldOwner(v1alpha1.ManagedBy))
	if apierrors.IsAlreadyExists(err) {
		return r.resolveRevision(ctx, s, accepted)
	}
	if err != nil {
		return false, fmt.Errorf("creating ControllerRevision: %w", err)
	}
	accepted.Stored = true
	r.specs.accept(key, accepted)
	return true, nil
}

// resolveRevision deals with a ControllerRevision of the wanted name that the cache did not show: it is
// ours, written by a manager before this one, or somebody else's, whose number is left out.
func (r *Reconciler) resolveRevision(ctx context.Context, s *plan.Snapshot, accepted plan.Accepted) (stored bool, err error) {
	key := client.ObjectKeyFromObject(s.Group)
	found := revisionMeta()
	if err := r.live.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: accepted.Name}, found); err != nil {
		return false, fmt.Errorf("getting ControllerRevision: %w", err)
	}
	if revision, ours := plan.RevisionOf(found, s.Group); ours && revision.Hash == accepted.Hash {
		accepted.Stored = true
	} else {
		accepted.Number++
		accepted.Name = plan.RevisionName(key.Name, accepted.Number)
	}
	r.specs.accept(key, accepted)
	return accepted.Stored, nil
}

// updateAllocated records that the entry point has other addresses or numbers than before.
func (r *Reconciler) updateAllocated(ctx context.Context, s *plan.Snapshot, accepted plan.Accepted) error {
	target := revisionMeta()
	target.Name, target.Namespace = accepted.Name, s.Group.Namespace
	err := r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, plan.AllocatedPatch(accepted.Allocated)), client.FieldOwner(v1alpha1.ManagedBy))
	if err != nil {
		return fmt.Errorf("updating ControllerRevision %s: %w", accepted.Name, err)
	}
	r.specs.accept(client.ObjectKeyFromObject(s.Group), accepted)
	return nil
}

// recordLost records that the entry point is not where its clients look for it.
func (r *Reconciler) recordLost(s *plan.Snapshot, lost string, now plan.Allocated) {
	note := fmt.Sprintf("others hold what Service %s had before (%s); it has %s now", s.Group.Name, lost, now)
	r.events.Eventf(s.Group, nil, corev1.EventTypeWarning, "AddressesChanged", "Restore", "%s", plan.Shorten(note, maxNote))
}

// deleteRevisions deletes those that are older than the history that is kept.
func (r *Reconciler) deleteRevisions(ctx context.Context, s *plan.Snapshot, outdated []plan.Revision) error {
	for _, revision := range outdated {
		target := revisionMeta()
		target.Name, target.Namespace = revision.Name, s.Group.Namespace
		if err := r.client.Delete(ctx, target); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting ControllerRevision %s: %w", revision.Name, err)
		}
	}
	return nil
}

// revisionGroup is the ServiceGroup that a ControllerRevision belongs to, by its controller.
func revisionGroup(meta metav1.Object) string {
	owner := metav1.GetControllerOf(meta)
	if owner == nil || owner.Kind != "ServiceGroup" || !strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") {
		return ""
	}
	return owner.Name
}
