//! What a table is told at its start.

/// Times after which a quiet flow is forgotten, and when to give alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Secret of the hash: random, and told to nobody. Two tables with different
    /// seeds hold the same flows in different places, and show the same.
    pub seed: u64,
    /// Idle times.
    pub idle: Idle,
    /// Thresholds.
    pub alarm: AlarmConfig,
}

/// Seconds without a frame after which a flow is forgotten, by what it is; each
/// 1..=[`Idle::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// TCP that was not answered, or whose handshake is not complete. 240:
    /// RFC 5382 REQ-5, "transitory connection idle-timeout" of 4 minutes.
    pub half_open: u32,
    /// TCP, established or half closed. 7440: RFC 5382 REQ-5, 2 hours 4 minutes,
    /// so that keep-alives of two hours hold it.
    pub established: u32,
    /// TCP closed by both, or reset. 240: two MSL of RFC 9293 section 3.4.2, in
    /// which the ports are not used again.
    pub closed: u32,
    /// UDP. 300: RFC 4787 REQ-5.
    pub udp: u32,
    /// ICMP. 60: RFC 5508 REQ-1.
    pub icmp: u32,
    /// Fragments and other protocols. 60: RFC 8200 section 4.5 and RFC 791 for
    /// the time in which fragments are put together.
    pub other: u32,
}

impl Idle {
    /// The longest: twelve hours. Times are kept in so many bits only.
    pub const MAX: u32 = 43_200;

    /// The shortest of them.
    pub(super) fn least(&self) -> u32 {
        let Self {
            half_open,
            established,
            closed,
            udp,
            icmp,
            other,
        } = *self;
        [established, closed, udp, icmp, other]
            .into_iter()
            .fold(half_open, u32::min)
    }
}

/// When to give alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmConfig {
    /// Connections half open at one listener (address and port); 0 never.
    pub half_open: u32,
    /// SYNs at one listener in one window that were not followed by a
    /// handshake; 0 never.
    pub syn_rate: u32,
    /// The window of SYNs, in seconds, 1 or more.
    pub window: u32,
    /// Different ports that one source tries in one window, with SYNs or with
    /// UDP to ports that are not dynamic (IANA: below 49152); 0 never, at most
    /// [`AlarmConfig::MAX_SCAN_PORTS`].
    pub scan_ports: u32,
    /// The window of ports, in seconds, 1 or more.
    pub scan_window: u32,
}

impl Config {
    /// The field that is out of its range, if one is.
    pub(super) fn out_of_range(&self) -> Option<&'static str> {
        let Idle {
            half_open,
            established,
            closed,
            udp,
            icmp,
            other,
        } = self.idle;
        let idle = [
            ("idle.half_open", half_open),
            ("idle.established", established),
            ("idle.closed", closed),
            ("idle.udp", udp),
            ("idle.icmp", icmp),
            ("idle.other", other),
        ];
        let idle = idle
            .into_iter()
            .find(|(_, seconds)| !(1..=Idle::MAX).contains(seconds));
        let alarm = &self.alarm;
        let rest = [
            ("alarm.window", alarm.window == 0),
            ("alarm.scan_window", alarm.scan_window == 0),
            (
                "alarm.scan_ports",
                alarm.scan_ports > AlarmConfig::MAX_SCAN_PORTS,
            ),
        ];
        let rest = rest.into_iter().find(|(_, wrong)| *wrong);
        idle.map(|(field, _)| field)
            .or(rest.map(|(field, _)| field))
    }
}

impl AlarmConfig {
    /// What can be told apart in the memory that a source has.
    pub const MAX_SCAN_PORTS: u32 = 1024;
}

impl Default for Config {
    /// A seed of 0, which is no secret: replace it where strangers' frames come.
    fn default() -> Self {
        Self {
            seed: 0,
            idle: Idle {
                half_open: 240,
                established: 7_440,
                closed: 240,
                udp: 300,
                icmp: 60,
                other: 60,
            },
            alarm: AlarmConfig {
                half_open: 256,
                syn_rate: 1_000,
                window: 10,
                scan_ports: 100,
                scan_window: 60,
            },
        }
    }
}
