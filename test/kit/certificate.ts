/** A key and a certificate for localhost that no authority has signed, good for a hundred years; for tests that speak TLS. */
export const key = [
  '-----BEGIN PRIVATE KEY-----',
  'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7barE+fssYNYdbFJ',
  'MjcFgwoBJeAffbXgQUZ+CIzfYpqhRANCAARe+zC8o7Wr4weiWDSdWvJzfhV7v3Rv',
  'ndfSQyapSc//GUj/e+DnULNbPsOJTiGEckHGQWfhrqbCWa2UBs/K/YdL',
  '-----END PRIVATE KEY-----',
].join('\n');
export const cert = [
  '-----BEGIN CERTIFICATE-----',
  'MIIBmzCCAUGgAwIBAgIUAXpHFRBnJUQM71UKksrtQAoy1HcwCgYIKoZIzj0EAwIw',
  'FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTIxMjUxOVoYDzIxMjYxMDI4',
  'MjEyNTE5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO',
  'PQMBBwNCAARe+zC8o7Wr4weiWDSdWvJzfhV7v3RvndfSQyapSc//GUj/e+DnULNb',
  'PsOJTiGEckHGQWfhrqbCWa2UBs/K/YdLo28wbTAdBgNVHQ4EFgQUy7KLJpMERBsK',
  'JVDqSWs/q6vHR9swHwYDVR0jBBgwFoAUy7KLJpMERBsKJVDqSWs/q6vHR9swDwYD',
  'VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI',
  'zj0EAwIDSAAwRQIhAK7h4mgl+FGUs10kzTnYToFiN030SAO+aCjTA20CpaskAiAQ',
  'cTsrMim+cHyl6D14PW4WzswX95OUmSZiCe8tlg0gUg==',
  '-----END CERTIFICATE-----',
].join('\n');
