// The world of a simulated device: libc's calls for time, chance and one file, defined once more. A program that is linked
// with them lives in simulated time once `sim_begin` was called, and its store lies on a disk whose power can be cut.
#ifndef CSIMULATION_H
#define CSIMULATION_H

#include <stddef.h>
#include <stdint.h>

// Begins to simulate. One thread only.
//   path: the file on the simulated disk, and no other.
//   seed: of getrandom(2).
void sim_begin(const char *path, uint64_t seed);

// Time. The monotonic clock goes on by a microsecond each time that it is asked.
void sim_pass(int64_t nanoseconds);
void sim_jump(int64_t milliseconds);          // the wall clock is set, the monotonic one is not
int64_t sim_monotonic(void);                  // nanoseconds
int64_t sim_wall(void);                       // milliseconds since the epoch
double sim_real_seconds(void);                // of the machine, for figures

// The disk. A call is a write, a change of length or a sync of the file.
uint64_t sim_calls(void);
// At the so-many-th call from now (1: the next) the power fails. What the disk has then is decided by the seed: all before
// the last completed sync, and of what came since any part of any write, by sectors of 512 bytes. The program does not
// notice: it goes on as a ghost, whose deeds nobody hears of, until `sim_restore`. 0: never.
void sim_cut(uint64_t calls, uint64_t seed);
int sim_is_cut(void);
// Puts what the disk had at the cut into the file, which must not be open. Further cuts and faults are forgotten.
// Returns 0, or -1 for a file that cannot be written.
int sim_restore(void);
// From the so-many-th call on so many calls fail: writes by error `code`, half of them after a part, and syncs by EIO.
void sim_fail(uint64_t calls, uint64_t count, int code);
// Syncs that say that they are done and are not, as many as that.
void sim_lie(uint64_t syncs);
// Notes that all is durable, as after an orderly shutdown of the machine.
void sim_settle(void);

// What the program says on standard error since the last call of it that has emptied it. Bounded.
const char *sim_log(size_t *count);
void sim_forget_log(void);
void sim_show_log(int is_shown);
// Whether the program has sent itself a signal to end; asking forgets it.
int sim_has_terminated(void);
int sim_will_terminate(void);

// Whether some bytes are anywhere in others.
int sim_find(const void *bytes, size_t count, const void *sought, size_t sought_count);

// Called when the power fails, and when the program waits for another thread: whatever that would do is to be done there.
extern void (*sim_when_cut)(void);
extern void (*sim_when_waiting)(void);

// Runs a child process. Returns its number, 0 in the child.
int sim_fork(void);
// Ends this process by SIGPROF after it has worked for so many seconds, or by SIGALRM after twenty times as long.
void sim_limit(unsigned seconds);
// Waits for any child. Returns its number; its exit status or 256 and the signal that has ended it.
int sim_wait(int *status);
int sim_pipe(int ends[2]);
void sim_exit(int status) __attribute__((noreturn));
long sim_read(int descriptor, void *bytes, size_t count);
void sim_kill(int child);

#endif
