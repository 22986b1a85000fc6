// Hello is what the images of tests hold: it answers every request with the content of the file /answer, as it was
// built into the image, on port 8080 or $PORT.
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	answer, err := os.ReadFile("/answer")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) })

	// Process 1 has no default action for a signal.
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() { <-end; os.Exit(0) }()
	log.Fatal(http.ListenAndServe(":"+cmp.Or(os.Getenv("PORT"), "8080"), nil))
}
