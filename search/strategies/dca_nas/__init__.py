"""DCA-NAS (Dutta, Kanvar and Agarwal, 2023): the method, its look-up graph, its slim supernet."""
