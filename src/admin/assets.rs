//! The admin page, embedded: one HTML, one style sheet, one script, one picture, nothing from elsewhere.
//!
//! Source of the policy: W3C Content Security Policy Level 3 and Trusted Types.

use http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// Everything is forbidden but what the page needs from its own origin; text never becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The media type and the text of the page's file at `path`.
pub(super) fn find(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/admin.html")),
        "/admin.css" => ("text/css; charset=utf-8", include_str!("page/admin.css")),
        "/admin.js" => ("text/javascript; charset=utf-8", include_str!("page/admin.js")),
        "/admin.svg" => ("image/svg+xml", include_str!("page/admin.svg")),
        _ => return None,
    })
}

/// What browsers are told with every answer, whatever it is.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `attribute="…"` in `html`.
    fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
        html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    fn text(path: &str) -> &'static str {
        find(path).expect("a file of the page").1
    }

    #[test]
    fn everything_the_page_names_is_embedded_and_nothing_is_inline_or_from_elsewhere() {
        let page = text("/");
        let linked: Vec<_> = [values(page, " src=\""), values(page, " href=\"")].concat();
        assert!(linked.len() >= 3, "{linked:?}");
        for path in linked {
            assert!(find(path).is_some() || path.starts_with('#'), "{path} is not embedded");
        }
        for forbidden in ["<style", " style=", " onclick=", "javascript:", "//cdn"] {
            assert!(!page.contains(forbidden), "{forbidden} is stopped by the policy");
        }
        assert!(!text("/admin.css").contains("url("), "no picture from elsewhere");
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"]
        {
            assert!(!text("/admin.js").contains(forbidden), "{forbidden} in the script");
        }
    }

    #[test]
    fn every_id_that_the_script_looks_up_is_on_the_page() {
        let ids: Vec<_> = text("/admin.js").split("$(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(ids.len() > 10, "{ids:?}");
        for id in ids {
            assert!(text("/").contains(&format!(" id=\"{id}\"")), "{id}");
        }
    }
}
