// Hello is what the images of tests hold: it answers with the content of the file /answer, as it was built into the
// image, on port 8080 or $PORT. Asked for /?resolve=NAME it answers with NAME's addresses; asked for
// /?connect=HOST:PORT, with "connected", or with what keeps it from there.
package main

import (
	"cmp"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// How long a connection is waited for: whoever drops what comes never says so.
const patience = time.Second

func main() {
	answer, err := os.ReadFile("/answer")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if address := r.URL.Query().Get("connect"); address != "" {
			connection, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				fmt.Fprint(w, err)
				return
			}
			connection.Close()
			fmt.Fprint(w, "connected")
			return
		}
		name := r.URL.Query().Get("resolve")
		if name == "" {
			w.Write(answer)
			return
		}
		addresses, err := net.LookupHost(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, strings.Join(addresses, " "))
	})

	// Process 1 has no default action for a signal. SIGWINCH has none in any process: a test may ask before this is reached.
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGWINCH)
	go func() { <-end; os.Exit(0) }()
	log.Fatal(http.ListenAndServe(":"+cmp.Or(os.Getenv("PORT"), "8080"), nil))
}
