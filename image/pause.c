// pause holds a sandbox's namespaces: the first process of every sandbox and,
// where a pod shares its pid namespace, the parent that orphans fall to.
//
// It has no libc, allocates nothing and touches a handful of pages: a node runs
// one per pod.

#if defined(__x86_64__)
enum { SYS_rt_sigaction = 13, SYS_rt_sigprocmask = 14, SYS_rt_sigtimedwait = 128, SYS_exit_group = 231 };

static long syscall4(long nr, long a, long b, long c, long d) {
	long ret;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
enum { SYS_rt_sigaction = 134, SYS_rt_sigprocmask = 135, SYS_rt_sigtimedwait = 137, SYS_exit_group = 94 };

static long syscall4(long nr, long a, long b, long c, long d) {
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "pause is written for amd64 and arm64"
#endif

// The kernel's own forms of these: one word of signals on both architectures.
typedef unsigned long sigset;

struct sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	sigset mask;
};

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, SIG_BLOCK = 0, SIG_IGN = 1 };

void _start(void) {
	// Children of one who ignores SIGCHLD leave no zombies: the kernel reaps
	// them, also those that fall to us when their parent dies.
	struct sigaction ignore = {.handler = (void *)SIG_IGN};
	syscall4(SYS_rt_sigaction, SIGCHLD, (long)&ignore, 0, sizeof(sigset));

	// The kernel drops a signal that the first process of a pid namespace has no
	// handler for, unless it is blocked: then it waits for us.
	sigset end = 1UL << (SIGTERM - 1) | 1UL << (SIGINT - 1);
	syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&end, 0, sizeof(sigset));
	// An error is an interruption, as by a debugger: wait again.
	while (syscall4(SYS_rt_sigtimedwait, (long)&end, 0, 0, sizeof(sigset)) < 0) {
	}
	// Being told to end is a success, as for the pause of Kubernetes.
	for (;;) {
		syscall4(SYS_exit_group, 0, 0, 0, 0);
	}
}
