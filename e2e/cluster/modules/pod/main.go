// Command pod is the only program of the local cluster's own image. Without arguments it is the
// pause container of every pod: it holds the pod's namespaces and reaps what dies in them.
// "serve ADDRESS" and "get URL" are the two ends of the check that pods reach each other.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 1 {
		pause()
		return
	}
	if len(os.Args) != 3 {
		log.Fatal("usage: pod [serve ADDRESS | get URL]")
	}
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2])
	case "get":
		get(os.Args[2])
	default:
		log.Fatalf("unknown command %q", os.Args[1])
	}
}

func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 || err != nil {
				break
			}
		}
	}
}

func serve(address string) {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			log.Printf("%s %s from %s", request.Method, request.URL.Path, request.RemoteAddr)
			fmt.Fprintf(writer, "hello from %s\n", name)
		}),
	}
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		<-signals
		os.Exit(0)
	}()
	log.Printf("serving on %s as user %d", address, os.Getuid())
	log.Fatal(server.ListenAndServe())
}

func get(url string) {
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		log.Fatalf("status %s", response.Status)
	}
}
