/* For a test: makes system calls by number, each in a process of its own, and prints what came of it: the errno, 0, or a signal.
 *
 *   calls MODE:NUMBER[:ARGUMENT]...
 *
 * MODE is clock (the seconds of the clock NUMBER are printed), 64 (the number as it is), x32 (with x32's bit), 32 (int 0x80, the number of i386) or thread (64, in a second thread: "alone" is
 * printed when only that one ended). "trap" is printed when SIGSYS came to its handler. Arguments are as strtol takes them. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long call_32(long number, const long *a)
{
	long result;
	register long six __asm__("rbp") = a[5];

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4]), "r"(six)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static long call_64(long number, const long *a)
{
	long result;
	register long four __asm__("r10") = a[3], five __asm__("r8") = a[4], six __asm__("r9") = a[5];

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(four), "r"(five), "r"(six)
			 : "memory", "rcx", "r11");
	return result;
}

enum { ALONE = 253, TRAP = 254 };

struct call {
	const char *mode;
	long number, arguments[6], result;
	int returned;
};

static void *make(void *pointer)
{
	struct call *call = pointer;

	call->result = !strcmp(call->mode, "32") ? call_32(call->number, call->arguments)
		: call_64(!strcmp(call->mode, "x32") ? call->number | 0x40000000 : call->number, call->arguments);
	call->returned = 1;
	return NULL;
}

static void trapped(int signal)
{
	(void)signal;
	_exit(TRAP);
}

static void in_child(struct call *call)
{
	pid_t own = getpid();
	pthread_t second;

	signal(SIGSYS, trapped);
	if (strcmp(call->mode, "thread")) {
		make(call);
	} else {
		if (pthread_create(&second, NULL, make, call))
			_exit(99);
		pthread_join(second, NULL);
		if (!call->returned)
			_exit(ALONE);
	}
	/* A call that makes a process has two ends. */
	if (getpid() != own)
		_exit(0);
	_exit(call->result < 0 && call->result > -ALONE ? (int)-call->result : 0);
}

int main(int count, char **words)
{
	for (int at = 1; at < count; at++) {
		char word[128], *part;
		struct call call = { 0 };
		int status = 0;

		snprintf(word, sizeof word, "%s", words[at]);
		call.mode = strtok(word, ":");
		call.number = strtol(strtok(NULL, ":"), NULL, 0);
		for (int i = 0; i < 6 && (part = strtok(NULL, ":")); i++)
			call.arguments[i] = strtol(part, NULL, 0);
		if (!strcmp(call.mode, "clock")) {
			struct timespec now = { 0 };

			clock_gettime((clockid_t)call.number, &now);
			printf("%s %lld\n", words[at], (long long)now.tv_sec);
			continue;
		}
		pid_t child = fork();
		if (child < 0)
			return 99;
		if (child == 0)
			in_child(&call);
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			printf("%s signal %d\n", words[at], WTERMSIG(status));
		else if (WEXITSTATUS(status) >= ALONE)
			printf("%s %s\n", words[at], WEXITSTATUS(status) == TRAP ? "trap" : "alone");
		else
			printf("%s %d\n", words[at], WEXITSTATUS(status));
	}
	return 0;
}
