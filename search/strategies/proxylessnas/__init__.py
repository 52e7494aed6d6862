"""ProxylessNAS (Cai, Zhu and Han, 2019): the method and its binary gates."""
