// An image without layers, and OpenPGP signatures of it, made by GnuPG 2.2 with the clock at 2024-01-02 and keys that
// were thrown away. The payload names the manifest below as registry.example.org/team/app:v1.
#pragma once

namespace crisp::image::testing {

// Says no platform, so that it fits every machine.
inline constexpr const char* kSignedConfig = R"({"rootfs":{"type":"layers","diff_ids":[]}})";

// Of that config.
inline constexpr const char* kSignedManifest =
    R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:bf3ddafc43cd121d9f11fc7b47e1d9f24aa8038b0d7eff8f9b2da8d6328a0550","size":42},"layers":[]})";

// What the signatures hold.
inline constexpr const char* kSignedPayload =
    R"({"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"sha256:cbcfebf4fe021fc8f6061ad60ca603fda543b8f73a1d0b6c082cf2be96e5142f"},"identity":{"docker-reference":"registry.example.org/team/app:v1"}},"optional":{"creator":"test","timestamp":1704067200}})";

// Ed25519, without end.
inline constexpr const char* kSignerKey =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEZZIAgBYJKwYBBAHaRw8BAQdApic05yuVQtLMi22vdt2W7sb43Ll9vnZ7XrXo\n"
    "iKin7HC0G3NpZ25lciA8c2lnbmVyQGV4YW1wbGUub3JnPoiQBBMWCAA4FiEEa/CQ\n"
    "qUK6AzjphJp/sWcbvQxJBwMFAmWSAIACGwMFCwkIBwIGFQoJCAsCBBYCAwECHgEC\n"
    "F4AACgkQsWcbvQxJBwPrEwD/RMhvqtS5Z5yFsj9+R8yIKeLT/7n6V65/qnBzikww\n"
    "EX8BAOvM39+FgJen2pQdx8iPgIYPJUftbdPe5xTgBMxW2TsD\n"
    "=FxgE\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";

// Ed25519, has signed nothing alone.
inline constexpr const char* kOtherKey =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEZZIAgBYJKwYBBAHaRw8BAQdA6sXZQzdzihVZUbNg15z/BLsw9NXdPugw0fQa\n"
    "Wk+l+Ze0GW90aGVyIDxvdGhlckBleGFtcGxlLm9yZz6IkAQTFggAOBYhBE8MJpUa\n"
    "84q7MLvol4S4IBHohiSfBQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheA\n"
    "AAoJEIS4IBHohiSfwfoBAL+ER1AzvdnGlorGs8+coat7+US7wLSeYWx22C4NaTyr\n"
    "AP9r2M2AYK9f5RnjIT3raHW6QOpYMEk79uBW6WG6ygbpAw==\n"
    "=nzXG\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";

// Ed25519, until 2024-01-31.
inline constexpr const char* kExpiredKey =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEZZIAgBYJKwYBBAHaRw8BAQdAIlowL8W6DLA+FeIpCGPvbDtab8LlXOzpoUhP\n"
    "BvI8Iiy0FW9sZCA8b2xkQGV4YW1wbGUub3JnPoiWBBMWCAA+FiEEOTrJHBuAz+/v\n"
    "J9hrmUBD2Pk885sFAmWSAIACGwMFCQAnjQAFCwkIBwIGFQoJCAsCBBYCAwECHgEC\n"
    "F4AACgkQmUBD2Pk885vQ6gD/VfZ0scGHvSETT7z7I9RICvnhA7g2xxbE9V3Pw3Im\n"
    "hr0A/0tEtIAxM01LJbAWqzwWZ3GnSpc6TLTuGCKqzwup+UcF\n"
    "=ILEa\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";

// By kSignerKey.
inline constexpr const char* kSignatureBase64 =
    "kA0DAAgWsWcbvQxJBwMBrQEkYgdwYXlsb2FkZZNSAHsiY3JpdGljYWwiOnsidHlwZSI6ImF0b21pYyBjb250YWluZXIgc2lnbmF0"
    "dXJlIiwiaW1hZ2UiOnsiZG9ja2VyLW1hbmlmZXN0LWRpZ2VzdCI6InNoYTI1NjpjYmNmZWJmNGZlMDIxZmM4ZjYwNjFhZDYwY2E2"
    "MDNmZGE1NDNiOGY3M2ExZDBiNmMwODJjZjJiZTk2ZTUxNDJmIn0sImlkZW50aXR5Ijp7ImRvY2tlci1yZWZlcmVuY2UiOiJyZWdp"
    "c3RyeS5leGFtcGxlLm9yZy90ZWFtL2FwcDp2MSJ9fSwib3B0aW9uYWwiOnsiY3JlYXRvciI6InRlc3QiLCJ0aW1lc3RhbXAiOjE3"
    "MDQwNjcyMDB9fYiJBAAWCAAxFiEEa/CQqUK6AzjphJp/sWcbvQxJBwMFAmWTUgATHHNpZ25lckBleGFtcGxlLm9yZwAKCRCxZxu9"
    "DEkHA0oTAP9l4l/YgbfXKSzelm70d4S30e7mH0xtRHSL0bSEBdUohAEApLb1dxMICOko9aMhQHQK6T3pr4qaCl2156OsIH3pvAI=";

// By kExpiredKey, while it was valid.
inline constexpr const char* kExpiredSignatureBase64 =
    "kA0DAAgWmUBD2Pk885sBrQEkYgdwYXlsb2FkZZNSAHsiY3JpdGljYWwiOnsidHlwZSI6ImF0b21pYyBjb250YWluZXIgc2lnbmF0"
    "dXJlIiwiaW1hZ2UiOnsiZG9ja2VyLW1hbmlmZXN0LWRpZ2VzdCI6InNoYTI1NjpjYmNmZWJmNGZlMDIxZmM4ZjYwNjFhZDYwY2E2"
    "MDNmZGE1NDNiOGY3M2ExZDBiNmMwODJjZjJiZTk2ZTUxNDJmIn0sImlkZW50aXR5Ijp7ImRvY2tlci1yZWZlcmVuY2UiOiJyZWdp"
    "c3RyeS5leGFtcGxlLm9yZy90ZWFtL2FwcDp2MSJ9fSwib3B0aW9uYWwiOnsiY3JlYXRvciI6InRlc3QiLCJ0aW1lc3RhbXAiOjE3"
    "MDQwNjcyMDB9fYiGBAAWCAAuFiEEOTrJHBuAz+/vJ9hrmUBD2Pk885sFAmWTUgAQHG9sZEBleGFtcGxlLm9yZwAKCRCZQEPY+Tzz"
    "m5UKAQCDCDrCd4uzmH8K53b4Y2LC0Dm5Z5kY8EBnWi3wCN9rUQD/YGIgOaCpa0oiFr030RlYHL9Q1eeuESbDGS5Mc0CvxgA=";

// By kSignerKey and kOtherKey in one message.
inline constexpr const char* kTwoSignaturesBase64 =
    "kA0DAAgWhLggEeiGJJ8AkA0DAAgWsWcbvQxJBwMBrQEkYgdwYXlsb2FkZZNSAHsiY3JpdGljYWwiOnsidHlwZSI6ImF0b21pYyBj"
    "b250YWluZXIgc2lnbmF0dXJlIiwiaW1hZ2UiOnsiZG9ja2VyLW1hbmlmZXN0LWRpZ2VzdCI6InNoYTI1NjpjYmNmZWJmNGZlMDIx"
    "ZmM4ZjYwNjFhZDYwY2E2MDNmZGE1NDNiOGY3M2ExZDBiNmMwODJjZjJiZTk2ZTUxNDJmIn0sImlkZW50aXR5Ijp7ImRvY2tlci1y"
    "ZWZlcmVuY2UiOiJyZWdpc3RyeS5leGFtcGxlLm9yZy90ZWFtL2FwcDp2MSJ9fSwib3B0aW9uYWwiOnsiY3JlYXRvciI6InRlc3Qi"
    "LCJ0aW1lc3RhbXAiOjE3MDQwNjcyMDB9fYiJBAAWCAAxFiEEa/CQqUK6AzjphJp/sWcbvQxJBwMFAmWTUgATHHNpZ25lckBleGFt"
    "cGxlLm9yZwAKCRCxZxu9DEkHA0oTAP9l4l/YgbfXKSzelm70d4S30e7mH0xtRHSL0bSEBdUohAEApLb1dxMICOko9aMhQHQK6T3p"
    "r4qaCl2156OsIH3pvAKIiAQAFggAMBYhBE8MJpUa84q7MLvol4S4IBHohiSfBQJlk1IAEhxvdGhlckBleGFtcGxlLm9yZwAKCRCE"
    "uCAR6IYkn3N5AP0ebAxxFHPoXopZRjPSQCY7rouE3Cq1raVi6j7a/R1gmgEA7Dkt1imISF+1fiG0RDuKcT3xyaa9CJWxbbJL+DYF"
    "ugM=";

}  // namespace crisp::image::testing
