// Everyday Go over cgo: C strings and buffers that one thread makes and another frees.
package main

/*
#include <stdlib.h>
#include <string.h>
static char *make(size_t size, int with) { char *p = malloc(size); if (p) memset(p, with, size); return p; }
static unsigned sum(const char *p, size_t size) { unsigned s = 0; for (size_t i = 0; i < size; i++) s += (unsigned char)p[i]; return s; }
*/
import "C"

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"unsafe"
)

type block struct {
	at   *C.char
	size int
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	channel := make(chan block, 1000)
	var makers, takers sync.WaitGroup
	sums := make([]uint64, 4)
	for maker := 0; maker < 4; maker++ {
		makers.Add(1)
		go func(maker int) {
			defer makers.Done()
			for i := 0; i < count; i++ {
				size := (i*7919+maker)%3000 + 1
				channel <- block{C.make(C.size_t(size), C.int(i%200)), size}
			}
		}(maker)
	}
	for taker := 0; taker < 4; taker++ {
		takers.Add(1)
		go func(taker int) {
			defer takers.Done()
			for one := range channel {
				sums[taker] += uint64(C.sum(one.at, C.size_t(one.size)))
				C.free(unsafe.Pointer(one.at))
			}
		}(taker)
	}
	makers.Wait()
	close(channel)
	takers.Wait()
	for i := 0; i < count; i++ {
		text := C.CString(fmt.Sprint(i))
		sums[0] += uint64(C.strlen(text))
		C.free(unsafe.Pointer(text))
	}
	fmt.Println(sums[0] + sums[1] + sums[2] + sums[3])
	C.exit(0) // by the C library, so that who waits for its end hears of it
}
