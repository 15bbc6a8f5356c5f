// clientgo: Kubernetes' own client library against a streaming URL, for tests/streaming_test.py.
//
//	clientgo exec spdy|websocket URL [tty] [stdin] [sizes=80x24,100x30]   stdin, stdout and stderr are the command's, and so is the exit code
//	clientgo port-forward spdy|websocket URL PORT CONNECTIONS             sends its stdin over each connection, checks that all answers are the same, writes it
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	exitcode "k8s.io/client-go/util/exec"
)

const patience = 5 * time.Minute // of a hang only

func fail(err error) {
	fmt.Fprintln(os.Stderr, "clientgo:", err)
	os.Exit(125)
}

// sizes gives each terminal size once, then none until the end.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, more := <-s
	if !more {
		return nil
	}
	return &size
}

func execute(transport string, address *url.URL, options []string) error {
	config := &rest.Config{Host: address.Scheme + "://" + address.Host, TLSClientConfig: rest.TLSClientConfig{Insecure: address.Scheme == "https"}}
	streams := remotecommand.StreamOptions{Stdout: os.Stdout, Stderr: os.Stderr}
	for _, option := range options {
		switch {
		case option == "tty":
			streams.Tty, streams.Stderr = true, nil
		case option == "stdin":
			streams.Stdin = os.Stdin
		case strings.HasPrefix(option, "sizes="):
			texts := strings.Split(strings.TrimPrefix(option, "sizes="), ",")
			queue := make(sizes, len(texts))
			for _, text := range texts {
				var size remotecommand.TerminalSize
				if _, err := fmt.Sscanf(text, "%dx%d", &size.Width, &size.Height); err != nil {
					return err
				}
				queue <- size
			}
			streams.TerminalSizeQueue = queue
		default:
			return fmt.Errorf("unknown option %q", option)
		}
	}
	var executor remotecommand.Executor
	var err error
	if transport == "websocket" {
		executor, err = remotecommand.NewWebSocketExecutor(config, "GET", address.String())
	} else {
		executor, err = remotecommand.NewSPDYExecutor(config, "POST", address)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return executor.StreamWithContext(ctx, streams)
}

func dialer(transport string, address *url.URL) (httpstream.Dialer, error) {
	config := &rest.Config{Host: address.Scheme + "://" + address.Host, TLSClientConfig: rest.TLSClientConfig{Insecure: address.Scheme == "https"}}
	if transport == "websocket" {
		return portforward.NewSPDYOverWebsocketDialer(address, config)
	}
	tripper, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: tripper}, "POST", address), nil
}

// talk sends everything, closes its side, and gives what comes back.
func talk(port uint16, request []byte) ([]byte, error) {
	connection, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	go func() {
		_, _ = connection.Write(request)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	return io.ReadAll(connection)
}

func forward(transport string, address *url.URL, port string, connections int) error {
	dial, err := dialer(transport, address)
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dial, []string{"0:" + port}, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	type answer struct {
		bytes []byte
		err   error
	}
	answers := make(chan answer, connections)
	for range connections {
		go func() {
			bytes, err := talk(ports[0].Local, request)
			answers <- answer{bytes, err}
		}()
	}
	var first []byte
	for i := range connections {
		one := <-answers
		if one.err != nil {
			return one.err
		}
		if i == 0 {
			first = one.bytes
		} else if !bytes.Equal(first, one.bytes) {
			return fmt.Errorf("an answer of %d bytes, another of %d", len(first), len(one.bytes))
		}
	}
	close(stop)
	<-ended
	_, err = os.Stdout.Write(first)
	return err
}

func main() {
	if len(os.Args) < 4 {
		fail(errors.New("wants: exec|port-forward spdy|websocket URL …"))
	}
	address, err := url.Parse(os.Args[3])
	if err != nil {
		fail(err)
	}
	switch rest := os.Args[4:]; os.Args[1] {
	case "exec":
		err = execute(os.Args[2], address, rest)
	case "port-forward":
		var connections int
		if len(rest) == 2 {
			connections, err = strconv.Atoi(rest[1])
		} else {
			err = errors.New("wants PORT CONNECTIONS")
		}
		if err == nil {
			err = forward(os.Args[2], address, rest[0], connections)
		}
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	var code exitcode.CodeExitError
	if errors.As(err, &code) {
		os.Exit(code.Code)
	}
	if err != nil {
		fail(err)
	}
}
