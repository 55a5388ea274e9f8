package describe

import (
	"strings"
)

// ownAnnotations are the beginnings of the annotations that a bug report needs; others are their
// writers' business, such as kubectl.kubernetes.io/last-applied-configuration, which repeats whole objects.
var ownAnnotations = []string{
	"net.servicegroup.dev/", "servicegroup.dev/", "service.kubernetes.io/", "endpoints.kubernetes.io/", "controller-gen.kubebuilder.io/",
}

// Redact takes out of an object, as it is in JSON, what is nobody's business: fields of management,
// annotations of others, and the values of environment variables. Of a pod that is not ours the rest of
// its spec goes, too, but for its node and its containers' names and ports.
func Redact(object map[string]any, ours bool) {
	if meta, ok := object["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		redactAnnotations(meta)
	}
	redactEnvironment(object)
	if spec, ok := object["spec"].(map[string]any); ok && object["kind"] == "Pod" && !ours {
		object["spec"] = map[string]any{"nodeName": spec["nodeName"], "containers": portsOf(spec["containers"])}
	}
}

func redactAnnotations(meta map[string]any) {
	annotations, ok := meta["annotations"].(map[string]any)
	if !ok {
		return
	}
	for key := range annotations {
		own := false
		for _, prefix := range ownAnnotations {
			own = own || strings.HasPrefix(key, prefix)
		}
		if !own {
			delete(annotations, key)
		}
	}
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
}

// redactEnvironment looks for it everywhere, since a Deployment has a pod in it.
func redactEnvironment(value any) {
	switch v := value.(type) {
	case map[string]any:
		delete(v, "envFrom")
		if environment, ok := v["env"].([]any); ok {
			for i, variable := range environment {
				if one, ok := variable.(map[string]any); ok {
					environment[i] = map[string]any{"name": one["name"]}
				}
			}
		}
		if meta, ok := v["metadata"].(map[string]any); ok {
			redactAnnotations(meta)
		}
		for _, part := range v {
			redactEnvironment(part)
		}
	case []any:
		for _, part := range v {
			redactEnvironment(part)
		}
	}
}

func portsOf(containers any) []any {
	list, _ := containers.([]any)
	out := make([]any, 0, len(list))
	for _, container := range list {
		if one, ok := container.(map[string]any); ok {
			out = append(out, map[string]any{"name": one["name"], "ports": one["ports"]})
		}
	}
	return out
}
