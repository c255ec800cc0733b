// SPDX-License-Identifier: Apache-2.0
// What the measured containers run: a program that ends at once, and one that waits. Without a C library, so that it costs nothing.
#if defined(__x86_64__)
#define NR_EXIT 60
#define NR_PAUSE 34
static long call(long number) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(0L), "S"(0L), "d"(0L), "r"(0L) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define NR_EXIT 93
#define NR_PAUSE 73 /* ppoll(0, 0, 0, 0) waits as well */
static long call(long number) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = 0, x1 __asm__("x1") = 0, x2 __asm__("x2") = 0, x3 __asm__("x3") = 0;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "no payload for this architecture yet"
#endif

void _start(void) {
#ifdef PROGRAM_pause
    for (;;) call(NR_PAUSE);
#else
    call(NR_EXIT);
#endif
}
