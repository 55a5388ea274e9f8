package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

// localTimeout bounds both sides of a question.
const localTimeout = 30 * time.Second

// maxQuestion bounds what somebody may have the agent read, in bytes.
const maxQuestion = 4 << 10

// squatterPause is the time before a name that a stranger holds is tried again.
const squatterPause = 5 * time.Second

// question is what is asked on a socket of the agent's. On dumpSocket the answer is an agentapi.Dump
// without the kernel's part.
type question struct {
	// Service is the NAMESPACE/NAME to dump; empty for everything.
	Service string
}

// serveLocal answers root, and whoever is the agent's own user, with JSON on a socket of this network namespace
// until ctx ends. Every process of the network namespace may take the name of such a socket; one of another
// user that holds it does not keep the agent from starting, and the name is taken over once it is free.
func serveLocal(ctx context.Context, log logr.Logger, address string, answer func(question) any) error {
	listener, err := net.Listen("unix", address)
	if err != nil {
		if !errors.Is(err, unix.EADDRINUSE) || heldByRoot(address) {
			return fmt.Errorf("listening for commands (is another agent running on this node?): %w", err)
		}
		log.Info("A process of another user holds the name of the agent's socket; agent dump and agent connections work once it lets go", "socket", address)
		go func() {
			for listener == nil && pause(ctx, squatterPause) {
				listener, _ = net.Listen("unix", address)
			}
			if listener != nil {
				answerLocal(ctx, listener, answer)
			}
		}()
		return nil
	}
	go answerLocal(ctx, listener, answer)
	return nil
}

func answerLocal(ctx context.Context, listener net.Listener, answer func(question) any) {
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // ctx has ended
		}
		if checkPeer(conn) == nil {
			// Whoever asked has gone if this fails.
			_ = conn.SetDeadline(time.Now().Add(localTimeout))
			var asked question
			if json.NewDecoder(io.LimitReader(conn, maxQuestion)).Decode(&asked) == nil {
				_ = json.NewEncoder(conn).Encode(answer(asked))
			}
		}
		_ = conn.Close()
	}
}

// heldByRoot says whether root, or the agent's own user, listens on a socket: another agent. A stranger may keep
// others from connecting, so one that does not answer counts as a stranger.
func heldByRoot(address string) bool {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	return checkPeer(conn) == nil
}

// checkPeer returns an error unless root or the agent's own user is at the other end of a socket.
func checkPeer(conn net.Conn) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%T is no local socket", conn)
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return fmt.Errorf("looking who is at the other end: %w", err)
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, peerErr); err != nil {
		return fmt.Errorf("looking who is at the other end: %w", err)
	}
	if int(peer.Uid) != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d is at the other end, want root", peer.Uid)
	}
	return nil
}

// askLocal reads the answer of the agent that runs in this network namespace.
func askLocal(address string, asked question, answer any) error {
	conn, err := net.Dial("unix", address)
	if err != nil {
		return fmt.Errorf("no agent answers in this network namespace; run this on the node, in the agent's pod: %w", err)
	}
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		return fmt.Errorf("another process answers in the agent's place: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(localTimeout)); err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	if err := json.NewEncoder(conn).Encode(asked); err != nil {
		return fmt.Errorf("asking the agent: %w", err)
	}
	if err := json.NewDecoder(conn).Decode(answer); err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	return nil
}
