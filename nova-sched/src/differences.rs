//! Every difference between the [strict rules](crate::Rules::Strict) and
//! [Nova's](crate::Rules::Nova).
//!
//! The policy `nova` and all others keep the strict rules; `nova-compat`, and every policy whose
//! configuration says `rules = "nova"`, does what Nova's code does.
//!
//! # Requests as a whole
//! | | strict | Nova |
//! |---|---|---|
//! | Something is malformed, so that a filter cannot say | it refuses the host, for a reason of its own | the whole request fails, even where other hosts would do |
//! | A weight is not a number | the host has the lowest weight | the whole request fails, unless only one host is left |
//! | Unknown or malformed extra specs and hints | an error when the flavor is made or the server asked for | nothing, or no host while servers are placed |
//! | Forced hosts | must be up and have room, NUMA cells and PCI devices | must have room; a guest whose devices are missing is not counted as heavy on the disk |
//! | Room, for the later instances of a request | asked before hosts are weighed | asked once before the first instance; then the first of the ranked hosts that still has room |
//! | Swap | counts as disk when it is claimed and when free disk is weighed | counts when it is claimed only |
//! | Multipliers that aggregates name | at most 1e15, so that sums stay finite; beyond it they are no numbers | any |
//!
//! # Extra specs
//! | | strict | Nova |
//! |---|---|---|
//! | `<or> a b` | malformed: it is `<or> a <or> b` | every second word counts, whatever is between them |
//! | `s== a b`, `>= 4 5` | malformed | words behind the operand are not looked at |
//! | `<in>`, `<all-in>`, `>=` without an operand | malformed | met by nothing |
//! | `<or>` without an operand | malformed | the request fails |
//! | `= 4` | at least 4, as in Nova: flavors rely on it | at least 4 |
//! | A key without a scope | is asked of aggregates | is asked of aggregates, and of the host when it has an attribute or stat of that name |
//!
//! # Filters
//! | | strict | Nova |
//! |---|---|---|
//! | `image-properties` | architecture, hypervisor and mode are compared each with its own part of what the host runs | with any part: the architecture `kvm` is met by a host that runs `x86_64` under `kvm` |
//! | `aggregate-image-properties` | every metadata key that the image has as a property counts | only those that Nova knows |
//! | `json`: `not` | turns its one argument round | makes a list of the opposites of all its arguments, which counts as true inside another operator |
//! | `json`: what a host does not tell | no comparison with it holds | is left out of the comparison |
//! | `json`: a query that is no list | malformed | holds when it counts as false, and fails the request otherwise |
//! | `traits`: a value that is neither `required` nor `forbidden` | malformed | says nothing |
//! | `numa-topology`: a server that starts from a volume | has no image properties | the request fails |
//!
//! # Weighers
//! | | strict | Nova |
//! |---|---|---|
//! | `image-props`, multiplier 0 in the policy | a host's aggregates may still name another | weighs nothing, whatever aggregates say |
//! | `metrics` that a host lacks, where it need not have them | the host has the weight that is configured | the same, but for hosts whose multiplier is 0 |
//!
//! # What neither does
//! Mostly, Nova's answer depends here on the order in which it happened to look.
//! | | here | in Nova |
//! |---|---|---|
//! | A guest cell that was once found to fit | is looked at again for another cell of the host | the result is kept under a number that changes meanwhile: hosts that cannot fit pass, and hosts that fit fail |
//! | `resources:VCPU`, `PCPU`, `MEMORY_MB`, `DISK_GB` | malformed: the flavor says how much | so much is claimed instead of what the flavor says |
//! | `resources1:` and other groups of their own | no key that a filter reads | one provider has all of a group |
//! | `hw:mem_page_size` `small`, `large`, `any` | chosen anew on every cell of every host | the size found on the first cell stays, also for the later servers of a request |
//! | Dedicated CPUs on a host that tells of no cores | each is a core | the request fails |
//! | A cell of a `mixed` guest that has no CPU for itself | asks nothing of threads, when it was made of a flavor | fits nowhere with `isolate`, and only beside a free core with `require` |
