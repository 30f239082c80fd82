/* stress_named.h: the policies of tests/native/policies.py, by name. */
#ifndef STRESS_NAMED_H
#define STRESS_NAMED_H
#include "stress.h"
#include "stress_policies.h"

static const hak_policy *policy_named(const char *name) {
    for (size_t i = 0; i < sizeof stress_policies / sizeof *stress_policies; i++)
        if (!strcmp(stress_policies[i].name, name))
            return (const hak_policy *)stress_policies[i].words;
    die("no policy %s", name);
}

#endif
