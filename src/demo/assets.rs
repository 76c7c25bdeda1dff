//! The page, embedded: one HTML, one style sheet, three scripts, nothing from elsewhere.
//!
//! Source of the policy: W3C Content Security Policy Level 3. Everything is forbidden but what the page itself needs
//! from its own origin.

/// One embedded file.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its media type.
    pub(super) kind: &'static str,
    /// Its bytes.
    pub(super) body: &'static str,
}

/// The policy sent with every asset.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The file at `path`, if there is one.
pub(super) fn find(path: &str) -> Option<Asset> {
    let (kind, body) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page.html")),
        "/demo/page.css" => ("text/css; charset=utf-8", include_str!("page.css")),
        "/demo/page.js" => (SCRIPT, include_str!("page.js")),
        "/demo/view.js" => (SCRIPT, include_str!("view.js")),
        "/demo/wire.js" => (SCRIPT, include_str!("wire.js")),
        "/demo/icon.svg" => ("image/svg+xml", include_str!("icon.svg")),
        _ => return None,
    };
    Some(Asset { kind, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `attribute="…"` in `html`.
    fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
        html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn everything_the_page_names_is_embedded_and_nothing_is_inline_or_from_elsewhere() {
        let page = find("/").expect("a page").body;
        let linked: Vec<_> = [values(page, " src=\""), values(page, " href=\"")].concat();
        assert!(linked.len() >= 3, "{linked:?}");
        for path in linked {
            assert!(find(path).is_some(), "{path} is not embedded");
        }
        for forbidden in ["<style", " style=", " onclick=", "javascript:", "//cdn"] {
            assert!(!page.contains(forbidden), "{forbidden} is stopped by the policy");
        }
    }

    #[test]
    fn every_id_that_the_scripts_look_up_is_on_the_page() {
        let page = find("/").expect("a page").body;
        let view = find("/demo/view.js").expect("a script").body;
        let ids: Vec<_> = view.split("$(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(ids.len() > 10, "{ids:?}");
        for id in ids {
            assert!(page.contains(&format!(" id=\"{id}\"")), "{id}");
        }
    }

    #[test]
    fn the_ids_that_tests_of_the_page_rely_on_are_there() {
        let page = find("/").expect("a page").body;
        for id in ["prompt", "send", "answer", "cut", "kill", "stall", "unstall", "stop", "status", "log", "violation"]
        {
            assert!(page.contains(&format!(" id=\"{id}\"")), "{id}");
        }
    }
}
