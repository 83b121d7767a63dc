//! What the kernel compiles in for `conf/all` and `conf/default`.
//!
//! Source: `ipv4_devconf` and `ipv4_devconf_dflt` in net/ipv4/devinet.c, `ipv6_devconf` and `ipv6_devconf_dflt` in
//! net/ipv6/addrconf.c, Linux 6.18, as a namespace made there under `net.core.devconf_inherit_init_net` = 2 prints
//! them. A file that is not here is one of another kernel: it is left alone and reported, never guessed.

/// One file of both folders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compiled {
    pub(super) leaf: &'static str,
    pub(super) all: &'static str,
    pub(super) default: &'static str,
}

const fn row(leaf: &'static str, all: &'static str, default: &'static str) -> Compiled {
    Compiled { leaf, all, default }
}

/// `ipv4_devconf`, `ipv4_devconf_dflt`; without `mc_forwarding`, which is read-only.
#[rustfmt::skip]
pub(super) const IPV4: [Compiled; 32] = [
    row("accept_local", "0", "0"),
    row("accept_redirects", "1", "1"),
    row("accept_source_route", "0", "1"),
    row("arp_accept", "0", "0"),
    row("arp_announce", "0", "0"),
    row("arp_evict_nocarrier", "1", "1"),
    row("arp_filter", "0", "0"),
    row("arp_ignore", "0", "0"),
    row("arp_notify", "0", "0"),
    row("bc_forwarding", "0", "0"),
    row("bootp_relay", "0", "0"),
    row("disable_policy", "0", "0"),
    row("disable_xfrm", "0", "0"),
    row("drop_gratuitous_arp", "0", "0"),
    row("drop_unicast_in_l2_multicast", "0", "0"),
    row("force_igmp_version", "0", "0"),
    row("forwarding", "0", "0"),
    row("igmpv2_unsolicited_report_interval", "10000", "10000"),
    row("igmpv3_unsolicited_report_interval", "1000", "1000"),
    row("ignore_routes_with_linkdown", "0", "0"),
    row("log_martians", "0", "0"),
    row("medium_id", "0", "0"),
    row("promote_secondaries", "0", "0"),
    row("proxy_arp", "0", "0"),
    row("proxy_arp_pvlan", "0", "0"),
    row("route_localnet", "0", "0"),
    row("rp_filter", "0", "0"),
    row("secure_redirects", "1", "1"),
    row("send_redirects", "1", "1"),
    row("shared_media", "1", "1"),
    row("src_valid_mark", "0", "0"),
    row("tag", "0", "0"),
];

/// `ipv6_devconf`, `ipv6_devconf_dflt`; without `mc_forwarding`, which is read-only, and `stable_secret`, which has
/// no default.
#[rustfmt::skip]
pub(super) const IPV6: [Compiled; 61] = [
    row("accept_dad", "0", "1"),
    row("accept_ra", "1", "1"),
    row("accept_ra_defrtr", "1", "1"),
    row("accept_ra_from_local", "0", "0"),
    row("accept_ra_min_hop_limit", "1", "1"),
    row("accept_ra_min_lft", "0", "0"),
    row("accept_ra_mtu", "1", "1"),
    row("accept_ra_pinfo", "1", "1"),
    row("accept_ra_rt_info_max_plen", "0", "0"),
    row("accept_ra_rt_info_min_plen", "0", "0"),
    row("accept_ra_rtr_pref", "1", "1"),
    row("accept_redirects", "1", "1"),
    row("accept_source_route", "0", "0"),
    row("accept_untracked_na", "0", "0"),
    row("addr_gen_mode", "0", "0"),
    row("autoconf", "1", "1"),
    row("dad_transmits", "1", "1"),
    row("disable_ipv6", "0", "0"),
    row("disable_policy", "0", "0"),
    row("drop_unicast_in_l2_multicast", "0", "0"),
    row("drop_unsolicited_na", "0", "0"),
    row("enhanced_dad", "1", "1"),
    row("force_forwarding", "0", "0"),
    row("force_mld_version", "0", "0"),
    row("force_tllao", "0", "0"),
    row("forwarding", "0", "0"),
    row("hop_limit", "64", "64"),
    row("ignore_routes_with_linkdown", "0", "0"),
    row("ioam6_enabled", "0", "0"),
    row("ioam6_id", "65535", "65535"),
    row("ioam6_id_wide", "4294967295", "4294967295"),
    row("keep_addr_on_down", "0", "0"),
    row("max_addresses", "16", "16"),
    row("max_desync_factor", "600", "600"),
    row("mldv1_unsolicited_report_interval", "10000", "10000"),
    row("mldv2_unsolicited_report_interval", "1000", "1000"),
    row("mtu", "1280", "1280"),
    row("ndisc_evict_nocarrier", "1", "1"),
    row("ndisc_notify", "0", "0"),
    row("ndisc_tclass", "0", "0"),
    row("optimistic_dad", "0", "0"),
    row("proxy_ndp", "0", "0"),
    row("ra_defrtr_metric", "1024", "1024"),
    row("ra_honor_pio_life", "0", "0"),
    row("ra_honor_pio_pflag", "0", "0"),
    row("regen_max_retry", "3", "3"),
    row("regen_min_advance", "2", "2"),
    row("router_probe_interval", "60", "60"),
    row("router_solicitation_delay", "1", "1"),
    row("router_solicitation_interval", "4", "4"),
    row("router_solicitation_max_interval", "3600", "3600"),
    row("router_solicitations", "-1", "-1"),
    row("rpl_seg_enabled", "0", "0"),
    row("seg6_enabled", "0", "0"),
    row("seg6_require_hmac", "0", "0"),
    row("suppress_frag_ndisc", "1", "1"),
    row("temp_prefered_lft", "86400", "86400"),
    row("temp_valid_lft", "604800", "604800"),
    row("use_oif_addrs_only", "0", "0"),
    row("use_optimistic", "0", "0"),
    row("use_tempaddr", "0", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_unique_so_that_they_can_be_searched() {
        for table in [&IPV4[..], &IPV6[..]] {
            assert!(table.windows(2).all(|pair| pair[0].leaf < pair[1].leaf));
        }
    }
}
