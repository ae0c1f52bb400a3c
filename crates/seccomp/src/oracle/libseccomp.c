/* For a test: reads a profile, line by line, builds libseccomp's filter of it as runc does, and writes its BPF program to standard
 * output. What this libseccomp does not know is written to standard error: an architecture and a name a line.
 *
 *   default ACTION
 *   arch TOKEN
 *   rule ACTION NAME COUNT [INDEX OP A B]...
 *
 * Actions are the numbers of SECCOMP_RET_…, as the kernel has them; they are libseccomp's too. */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-result));
		exit(1);
	}
}

static const struct {
	const char *name;
	uint32_t token;
} archs[] = { { "x86_64", SCMP_ARCH_X86_64 }, { "x86", SCMP_ARCH_X86 }, { "x32", SCMP_ARCH_X32 } };

int main(void)
{
	char word[16], name[64], op[32];
	uint32_t action, fallback = 0;
	scmp_filter_ctx filter = NULL;

	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "default")) {
			if (scanf("%" SCNu32, &fallback) != 1 || !(filter = seccomp_init(fallback)))
				return 2;
			/* What is no call of any listed architecture kills the process, and not its thread alone. */
			check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "badarch");
		} else if (!strcmp(word, "arch")) {
			if (scanf("%63s", name) != 1)
				return 2;
			int result = seccomp_arch_add(filter, seccomp_arch_resolve_name(name));
			check(result == -EEXIST ? 0 : result, name);
		} else if (!strcmp(word, "rule")) {
			struct scmp_arg_cmp args[6];
			unsigned count, index;
			if (scanf("%" SCNu32 " %63s %u", &action, name, &count) != 3 || count > 6)
				return 2;
			for (unsigned i = 0; i < count; i++) {
				uint64_t a, b;
				if (scanf("%u %31s %" SCNu64 " %" SCNu64, &index, op, &a, &b) != 4)
					return 2;
				enum scmp_compare compare = !strcmp(op, "SCMP_CMP_NE") ? SCMP_CMP_NE
					: !strcmp(op, "SCMP_CMP_LT") ? SCMP_CMP_LT : !strcmp(op, "SCMP_CMP_LE") ? SCMP_CMP_LE
					: !strcmp(op, "SCMP_CMP_EQ") ? SCMP_CMP_EQ : !strcmp(op, "SCMP_CMP_GE") ? SCMP_CMP_GE
					: !strcmp(op, "SCMP_CMP_GT") ? SCMP_CMP_GT : SCMP_CMP_MASKED_EQ;
				args[i] = (struct scmp_arg_cmp){ index, compare, a, b };
			}
			for (unsigned i = 0; i < sizeof(archs) / sizeof(archs[0]); i++) {
				/* Below -10000 is what an architecture has not; from there to -100 is behind socketcall and ipc. */
				int number = seccomp_syscall_resolve_name_arch(archs[i].token, name);
				if (number == __NR_SCMP_ERROR || number < -10000)
					fprintf(stderr, "%s %s\n", archs[i].name, name);
			}
			int number = seccomp_syscall_resolve_name(name);
			if (number != __NR_SCMP_ERROR && action != fallback)
				check(seccomp_rule_add_array(filter, action, number, count, args), name);
		} else {
			return 2;
		}
	}
	check(seccomp_export_bpf(filter, 1), "export");
	return 0;
}
