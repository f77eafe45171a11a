//! Address: where a repository is, so that two ways to write it can be told to be the same.

/// Ports that nobody has to write.
const USUAL_PORTS: [&str; 4] = ["22", "80", "443", "9418"];

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    scheme: String,
    host: String,
    port: String,
    path: String,
}

/// Whether two URLs name one repository: over https and over ssh, with `.git` and without, as anybody.
pub fn is_same_repository(one: &str, other: &str) -> bool {
    let (one, other) = (Address::of(one), Address::of(other));
    // A server listens on another port for each scheme; on two ports of one scheme there are two servers.
    one.host == other.host && one.path == other.path && (one.port == other.port || one.scheme != other.scheme)
}

/// The name of the server that a repository is on; none where it is on this machine.
pub fn host(url: &str) -> Option<String> {
    Some(Address::of(url).host).filter(|host| !host.is_empty())
}

impl Address {
    fn of(url: &str) -> Self {
        let url = url.trim();
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme.to_lowercase(), rest),
            None => match url.split_once(':') {
                // `git@host:path`, and no path on this machine: that has a slash before the colon, or is a drive.
                Some((host, path)) if !host.contains(['/', '\\']) && host.len() > 1 => {
                    return Self::new("ssh", host, path);
                }
                _ => return Self::new("file", "", url),
            },
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme == "file" { Self::new("file", "", path) } else { Self::new(&scheme, authority, path) }
    }

    fn new(scheme: &str, authority: &str, path: &str) -> Self {
        let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (server, ""),
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        let port = if USUAL_PORTS.contains(&port) { "" } else { port };
        // Servers take names of repositories in any case; the file system of this machine may not.
        let path = if scheme == "file" { path.to_owned() } else { path.to_lowercase() };
        Self { scheme: scheme.replace("git+ssh", "ssh"), host: host.to_lowercase(), port: port.to_owned(), path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_same_by_whatever_way() {
        let fleet = "https://git.example.com/shop/fleet";
        for (one, other, expected) in [
            (fleet, "https://git.example.com/shop/fleet.git", true),
            (fleet, "https://git.example.com/shop/fleet/", true),
            (fleet, "https://alice:token@git.example.com:443/shop/Fleet.git", true),
            (fleet, "git@git.example.com:shop/fleet.git", true),
            (fleet, "ssh://git@git.example.com:2222/shop/fleet.git", true),
            (fleet, "ssh://git@GIT.example.com/shop/fleet", true),
            (fleet, "https://git.example.com/shop/fleet2", false),
            (fleet, "https://git.example.com/other/fleet", false),
            (fleet, "https://git2.example.com/shop/fleet", false),
            (fleet, "https://git.example.com:8443/shop/fleet", false),
            ("ssh://git@git.example.com:2222/a/b", "ssh://git@git.example.com:2223/a/b", false),
            ("file:///srv/fleet.git", "/srv/fleet", true),
            ("/srv/fleet.git", "/srv/Fleet.git", false),
            ("/srv/a:b/fleet.git", "/srv/a:b/fleet", true),
            (fleet, "/shop/fleet", false),
        ] {
            assert_eq!(is_same_repository(one, other), expected, "{one} {other}");
            assert_eq!(is_same_repository(other, one), expected, "{other} {one}");
        }
    }
}
