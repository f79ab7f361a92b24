// What the host and the compiled machine agree on. sim/compiled.py has the same in Python.

#pragma once

#include <cstddef>
#include <cstdint>

// Probabilities are in units of 2**-32.
struct Parameters {
    uint64_t seed;
    uint32_t latency;           // cycles from a request to its first beat
    uint32_t jitter;            // cycles that it may be longer
    uint32_t rate, rate_of;     // cycles of the memory in `rate_of` cycles of the machine
    uint32_t row_beats;         // beats of a row; 0: no rows
    uint32_t row_pause;         // cycles of the memory from one row to another
    uint32_t refresh_period;    // cycles of the memory from one pause to the next; 0: none
    uint32_t refresh_pause;     // cycles of a pause
    uint32_t stall_memory;      // play, beats, load, or each AXI4 channel
    uint32_t stall_in;          // link_i
    uint32_t stall_out;         // link_o
};

// All since power-up. Of a striped tape, `beats`, `withheld` and `requests` are those of the first memory,
// and `source_idle` and `source_paused` are sums over the memories.
struct Counters {
    uint64_t cycles;
    uint64_t beats;             // beats given
    uint64_t withheld;          // cycles in which a requested beat was wanted and not offered
    uint64_t requests;
    uint64_t loads;             // beats written
    uint64_t octets_in;
    uint64_t octets_out;
    uint64_t events;            // events traced
    uint64_t source_idle;       // of a run: cycles in which a memory could give a beat and did not
    uint64_t source_paused;     // of a run: cycles in which a memory opened a row, refreshed, stalled
};

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void *machine_new(const Parameters *parameters);
EXPORT void machine_delete(void *machine);

// Assert the reset for `cycles` cycles. The memory keeps its contents, requests are forgotten.
EXPORT void machine_reset(void *machine, uint64_t cycles);

// Play the clock until all `n_in` octets are taken and `n_out` have come out, but for no more than
// `max_cycles`, and not once `out` is full (`cap`).
EXPORT void machine_run(void *machine, const uint8_t *in, size_t n_in, size_t *consumed,
                        uint8_t *out, size_t cap, size_t *produced, uint64_t max_cycles,
                        size_t n_out);

// Direct access to the memory; what was never written reads as zero. Writing returns 0 when there
// is no room for that.
EXPORT int machine_memory_write(void *machine, uint64_t offset, const uint8_t *octets, uint64_t n);
EXPORT void machine_memory_read(void *machine, uint64_t offset, uint8_t *octets, uint64_t n);

// Events wait until they are taken: `machine_trace_take` copies all of them, and forgets them.
EXPORT void machine_trace(void *machine, int on);
EXPORT uint64_t machine_trace_words(void *machine);
EXPORT void machine_trace_take(void *machine, uint32_t *words);

// Remember all inputs from now on, and play what another machine of the library remembers: the clock and
// inputs, and nothing else. Gives the octets that came out. Not for striped tapes.
EXPORT void machine_record(void *machine);
EXPORT uint64_t machine_replay(void *machine, const void *recorded);

EXPORT void machine_counters(void *machine, Counters *counters);

// Write cycles `first` to `last` to a VCD file, in a build with WAVEFORM.
EXPORT void machine_waveform(void *machine, const char *path, uint64_t first, uint64_t last);
EXPORT void machine_waveform_close(void *machine);

// Write what has been covered to a file, in a build with COVERAGE.
EXPORT void machine_coverage(void *machine, const char *path);
