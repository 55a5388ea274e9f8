package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Request is a line of the audit log.
type Request struct {
	// Verb is the verb of RBAC: get, create, patch and so on.
	Verb string
	// UserAgent names the program that asked: the project's begin with "servicegroup/".
	UserAgent string
	// ObjectRef is what was asked for.
	ObjectRef struct{ APIGroup, Resource, Subresource, Namespace, Name string }
	// RequestReceivedTimestamp is when the API server got it.
	RequestReceivedTimestamp time.Time
}

// Write says whether the request is one to change something.
func (r *Request) Write() bool {
	switch r.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// Requests are those in the audit log that were received since a moment, refused ones too. It needs
// the option AuditLog.
func (c *ControlPlane) Requests(since time.Time) ([]Request, error) {
	file, err := os.Open(c.AuditLogPath())
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	var out []Request
	// A line that is not whole yet is not answered yet either.
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return out, nil
		}
		var request Request
		if err := json.Unmarshal(line, &request); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		if !request.RequestReceivedTimestamp.Before(since) {
			out = append(out, request)
		}
	}
}
