//! The cases that have to hold, by id: one sentence each. Which tests hold them is read from the tests.

/// Cases of one kind.
pub struct Section {
    /// What their ids begin with.
    pub letter: char,
    /// What they have in common.
    pub title: &'static str,
    /// Their ids and what each says.
    pub cases: &'static [(&'static str, &'static str)],
}

pub const SECTIONS: [Section; 7] = [STAMPS, GATE, TOKENS, INPUT, OUTAGES, CERTIFICATES, PLUGIN];

const STAMPS: Section = Section {
    letter: 'L',
    title: "Stamps",
    cases: &[
        ("L-01", "A Deployment that is made, scaled and rolled comes to rest: no more reviews, versions or stamps."),
        ("L-02", "After `kubectl rollout undo` the stamp names who undid, not who is in the old ReplicaSet's copy."),
        ("L-03", "The same apply, PUT or server-side apply again changes no byte, no version, and is sent no patch."),
        ("L-04", "A PUT that leaves our keys out does not lose them."),
        ("L-05", "Keys of ours that a client makes up on create or update are replaced by the truth."),
        ("L-08", "Ephemeral containers and resizes are decided; as their stamp cannot stay, the audit log has it."),
        ("L-09", "Every kind of scale needs a token in prod and none elsewhere, and no Scale is given a stamp."),
        (
            "L-10",
            "Without annotations, with empty ones and with all but 256 KiB of them: stamped or refused, never a 500.",
        ),
        ("L-11", "A webhook after ours that edits the stamp or takes it off does not get the write in that way."),
        ("L-12", "Called a second time for one write, the webhook says the same, to the second."),
        (
            "L-13",
            "Dry runs and `kubectl diff` leave nothing, use no token, and show no difference where there is none.",
        ),
        ("L-14", "An object whose name the API server makes is stamped, and decided by its namespace."),
        ("L-15", "A create by server-side apply or by PUT is a create, and leaves managedFields valid."),
        ("L-17", "Mirror pods, node leases, Events, EndpointSlices and the kubelet's status stay as they are sent."),
        ("L-18", "The stamp belongs to no field manager: another one applies later without a conflict."),
    ],
};

const GATE: Section = Section {
    letter: 'S',
    title: "Ways around the gate",
    cases: &[
        (
            "S-00",
            "Whatever discovery serves, tried in each way that changes something, is gated or exempt for a reason.",
        ),
        ("S-01", "No verb and no kind of patch changes prod without a token, and the refusal says what to type."),
        (
            "S-02",
            "Evictions, collections, preconditions, any propagation, owners: each is refused like a plain delete.",
        ),
        ("S-04", "Deleting, labelling, naming, finalizing a Namespace, or its status, is no way out of prod."),
        ("S-05", "A write within a millisecond of the making of its prod namespace is not taken for one to dev."),
        ("S-06", "What cannot be looked up, or is not listed yet, keeps prod shut."),
        ("S-07", "An object that is being deleted stays guarded until it is gone."),
        (
            "S-08",
            "A kind is guarded in each group and version, converted ones and those that are served later included.",
        ),
        ("S-09", "Nobody borrows an exempt identity by impersonation, a pod or a minted token; who could is reported."),
        ("S-10", "What runs in dev and writes to prod is refused as the service account that it is."),
        ("S-11", "The controllers that keep prod running may; without any entry of their list something breaks."),
        (
            "S-12",
            "exec, attach, port-forward and proxy, to pods and nodes, however opened, are gated and in the audit log.",
        ),
        ("S-13", "No label on an object exempts it from the gate."),
        ("S-15", "An aggregated API that asks no webhook is reported as not covered."),
        ("S-16", "Tampering with what we are made of is refused, or noticed and mended within five seconds."),
        ("S-17", "A Service of ours that leads to somebody else's pod shuts prod, and raises an alarm."),
        ("S-18", "No object makes a matchCondition fail, or turn out false, in its writer's favour."),
        ("S-19", "One tenant's flood of writes does not take the others twice as long."),
        ("S-20", "What the webhook writes itself never comes back to it."),
        ("S-21", "No value of a Secret is in a log, a metric, a trace or a crash."),
    ],
};

const TOKENS: Section = Section {
    letter: 'K',
    title: "Tokens",
    cases: &[
        (
            "K-01",
            "Without a token, or with one that is over, to come, closed or for others, nothing is let in, and why is said.",
        ),
        (
            "K-02",
            "A token ends at its millisecond, also under way; a length of zero, below, beyond and none is dealt with.",
        ),
        ("K-03", "An object of the same name in another namespace, version or kind is no token."),
        ("K-04", "Nobody approves for themselves, by any route; who approves is who the API server says it is."),
        ("K-05", "What a token reaches cannot be widened after it was approved."),
        ("K-08", "A closed token lets nothing in on any replica after a bound that is measured."),
        (
            "K-09",
            "A hundred thousand tokens and a thousand changes a second: memory bounded, latency flat, none missed.",
        ),
        ("K-10", "A malformed token is passed over and counted; it crashes nothing and matches nothing."),
        ("K-11", "Without the tokens' definition prod is shut, that is said, and no cached token comes back."),
        ("K-12", "Patterns match in linear time, names play no tricks, and a wildcard has to be allowed."),
        (
            "K-13",
            "Each write that was let in to prod is in the audit log with token and user, and counted on the token.",
        ),
        (
            "K-14",
            "With the webhook broken, a cluster admin changes prod as documented within two minutes, on the record.",
        ),
    ],
};

const INPUT: Section = Section {
    letter: 'H',
    title: "Hostile input",
    cases: &[
        (
            "H-01",
            "No request, however cut, packed, headed or sent, gets more than a 4xx, ends anything or takes memory.",
        ),
        ("H-02", "A review of another version, or without a sound request and uid, is never let in."),
        ("H-03", "200, 1,000 and 9,999 levels deep, an object is decided like a shallow one."),
        ("H-04", "1.4 MB of what JSON writes longest is decided on create and update, within the budget."),
        ("H-05", "The largest writes, and the longest lists in metadata, take linear time."),
        ("H-08", "Numbers that nothing can hold change no decision."),
        ("H-09", "What is too long to say is cut between characters, and the API server takes it."),
        ("H-11", "Pipelined, half-closed and broken connections never get another one's answer."),
        ("H-12", "Without a timeout that can be read, the default one holds."),
    ],
};

const OUTAGES: Section = Section {
    letter: 'R',
    title: "Faults, load, and coming back",
    cases: &[
        (
            "R-01",
            "Of two replicas under load one is killed: only what it was answering fails, and for less than a second.",
        ),
        ("R-02", "Prod is shut; kube-system, node leases and our own namespace are open; it recovers by itself."),
        (
            "R-03",
            "Where only a stamp is at stake writes pass, and the API server counts and writes down that nobody was asked.",
        ),
        ("R-04", "A rolling restart under load loses no write."),
        ("R-05", "After SIGTERM what has begun is answered, and who is connected is asked to go elsewhere."),
        ("R-06", "SIGTERM twice, or before it is ready, is a clean end."),
        ("R-07", "A connection that was idle for as long as the API server keeps one still answers."),
        (
            "R-08",
            "Ready is who has listed everything, can be reached over TLS and is registered; before, it puts calls off.",
        ),
        ("R-09", "Cut off from the API server, prod is shut, the rest goes on, and nobody restarts it for that."),
        ("R-10", "A watch that is gone, old or deaf is begun again, and no token is lost or doubled."),
        ("R-11", "An API server that went back in time is believed: what is not there any more admits nothing."),
        ("R-12", "Of two API servers one lags: a token that was closed at the other admits nothing."),
        ("R-13", "The API server tries again after a 503 with Retry-After, and not without."),
        ("R-14", "A webhook that hangs costs a write its timeout, and leaves nothing behind."),
        ("R-15", "Slow bodies, stalled handshakes and thousands of idle connections keep nobody else out."),
        ("R-16", "A bug in one call is a 500 for that call."),
        ("R-17", "Out of memory is who sends too much, not the webhook."),
        ("R-18", "With a tenth of a processor it is slow, and never wrong."),
        ("R-19", "It runs on a read-only root without /tmp."),
        ("R-20", "A log that nobody reads and Events that nobody takes delay no write."),
        ("R-21", "Clocks that jump or disagree open nothing and break nothing."),
        ("R-22", "Without its leader the rest serves on; another leads soon, and two do no harm."),
        ("R-23", "Drains go one replica at a time; a single replica is replaced before it goes."),
        ("R-24", "A cluster that lost all nodes makes our own pods again without help."),
        ("R-25", "The pods of network, DNS and proxy start."),
        ("R-26", "In whatever order its parts are deleted, no lock is left that nobody answers."),
        ("R-27", "An upgrade and the way back, under load and with both versions at work, lose no write."),
        ("R-29", "Service accounts, token reviews and access reviews work, so logging in does."),
    ],
};

const CERTIFICATES: Section = Section {
    letter: 'T',
    title: "Certificates, and who calls",
    cases: &[
        ("T-01", "A new leaf under load: no call meets it unbelieved, and old connections live on."),
        ("T-02", "A new CA is trusted before it is used, and the old one until it is not."),
        ("T-04", "A machine that slept through a renewal catches up when it wakes."),
        ("T-05", "Of replicas that all make the first CA one wins, and the others go by it."),
        ("T-06", "A configuration that somebody edits or deletes is repaired within seconds, and somebody is told."),
        ("T-07", "A leaf of the wrong name, CA, key or time is not shown; other good kinds are."),
        ("T-08", "TLS 1.2 and later alone; HTTP/1.1, HTTP/2 and no word about it all work."),
        ("T-09", "Where callers have to show a certificate, only the API server's is taken, and its CA can change."),
        ("T-10", "Whoever calls past the API server learns nothing and changes nothing."),
    ],
};

const PLUGIN: Section = Section {
    letter: 'X',
    title: "The plugin",
    cases: &[("X-12", "Each of twelve seeded faults is found by `doctor`, with the command that mends it.")],
};

/// Cases that no test here can hold, and why.
pub const ELSEWHERE: [(&str, &str, &str); 1] = [(
    "R-28",
    "Every supported version of Kubernetes.",
    "The control plane is built from one pinned version. `KUBEBUILDER_ASSETS` takes the programs of any other, and \
     `KUBECONFIG_BREAKGLASS_TEST` any other cluster; the whole suite is then the answer.",
)];
